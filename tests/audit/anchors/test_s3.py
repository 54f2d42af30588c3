import logging
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.audit.anchors.conftest import NOTE, OTHER, one

from airgate.audit.anchors import AnchorError
from airgate.audit.anchors.s3 import S3Anchor

KEY = "airgate/audit/00000000000000000007.note"
_buckets = count()


@pytest.fixture(scope="module")
def endpoint():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def client(endpoint):
    """What somebody with the rights to write does by hand."""
    made = boto3.session.Session("AKIAEVE", "eve").client("s3", endpoint_url=endpoint, region_name="us-east-1")
    yield made
    made.close()


@pytest.fixture
def bucket(client):
    name = f"audit-{next(_buckets)}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def anchor(bucket, endpoint):
    return opened(bucket, endpoint)


def opened(bucket: str, endpoint: str, options: str = "retain_days=30") -> S3Anchor:
    return one(f"s3://{bucket}/airgate/audit?{options}&endpoint={endpoint}")


def locked(days: float, mode: str = "COMPLIANCE") -> dict[str, object]:
    return {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=days)}


def versions(client, bucket: str) -> list[dict[str, object]]:
    return client.list_object_versions(Bucket=bucket).get("Versions", [])


@pytest.mark.parametrize("mode", ["COMPLIANCE", "GOVERNANCE"])
def test_a_note_is_one_locked_object_with_exactly_its_bytes(bucket, endpoint, client, mode):
    anchor = opened(bucket, endpoint, f"retain_days=30&mode={mode}")
    assert anchor.put(7, NOTE) == b""
    held = client.get_object(Bucket=bucket, Key=KEY)
    assert held["Body"].read() == NOTE
    assert held["ObjectLockMode"] == mode
    assert timedelta(days=29) < held["ObjectLockRetainUntilDate"] - datetime.now(UTC) <= timedelta(days=30)
    assert anchor.notes() == {7: NOTE}
    anchor.check(7, NOTE, b"")


def test_ten_years_in_compliance_mode_unless_told_otherwise(bucket, endpoint, client):
    opened(bucket, endpoint, "region=us-east-1").put(7, NOTE)
    held = client.head_object(Bucket=bucket, Key=KEY)
    assert held["ObjectLockMode"] == "COMPLIANCE"
    assert held["ObjectLockRetainUntilDate"] - datetime.now(UTC) > timedelta(days=3649)


def test_the_same_note_again_is_no_version_and_another_is_refused(anchor, bucket, client):
    anchor.put(7, NOTE)
    anchor.put(7, NOTE)
    with pytest.raises(AnchorError, match="holds another checkpoint of size 7.*Nothing was overwritten"):
        anchor.put(7, OTHER)
    assert len(versions(client, bucket)) == 1
    anchor.put(8, OTHER)
    assert anchor.notes() == {7: NOTE, 8: OTHER}


def test_a_bucket_without_lock_is_refused(client, endpoint):
    client.create_bucket(Bucket="unlocked")
    with pytest.raises(AnchorError, match="the bucket has no Object Lock, so whoever may write .*Nothing was written.*--object"):
        opened("unlocked", endpoint).put(7, NOTE)
    assert versions(client, "unlocked") == []


def test_what_was_written_over_it_is_found_and_the_first_stays(anchor, bucket, client):
    anchor.put(7, NOTE)
    client.put_object(Bucket=bucket, Key=KEY, Body=OTHER, **locked(30))
    checks = (lambda: anchor.check(7, NOTE, b""), lambda: anchor.check(7, OTHER, b""))
    for act in (anchor.notes, *checks, lambda: anchor.put(7, NOTE)):
        with pytest.raises(AnchorError, match=rf"holds another checkpoint under {KEY}: version \S+ differs from the first, "):
            act()
    assert versions(client, bucket)[-1]["IsLatest"] is False


def test_the_same_bytes_again_from_others_are_no_difference(anchor, bucket, client):
    anchor.put(7, NOTE)
    client.put_object(Bucket=bucket, Key=KEY, Body=NOTE)
    anchor.put(7, NOTE)
    anchor.check(7, NOTE, b"")
    assert anchor.notes() == {7: NOTE}


def test_a_deletion_hides_nothing_from_us(anchor, bucket, client):
    anchor.put(7, NOTE)
    client.delete_object(Bucket=bucket, Key=KEY)
    assert anchor.notes() == {7: NOTE}
    anchor.check(7, NOTE, b"")
    with pytest.raises(AnchorError, match="another checkpoint of size 7"):
        anchor.put(7, OTHER)


def test_a_note_that_is_not_locked_vouches_for_nothing(anchor, bucket, endpoint, client):
    client.put_object(Bucket=bucket, Key=KEY, Body=NOTE)
    for act in (lambda: anchor.check(7, NOTE, b""), lambda: anchor.put(7, NOTE)):
        with pytest.raises(AnchorError, match=rf"{KEY} is not locked in the mode COMPLIANCE \(found: None\)"):
            act()
    other = KEY.replace("7.", "8.")
    client.put_object(Bucket=bucket, Key=other, Body=NOTE, **locked(30, "GOVERNANCE"))
    with pytest.raises(AnchorError, match=r"not locked in the mode COMPLIANCE \(found: GOVERNANCE\)"):
        anchor.check(8, NOTE, b"")
    opened(bucket, endpoint, "mode=GOVERNANCE").check(8, NOTE, b"")


def test_a_lock_that_has_ended_vouches_for_nothing(anchor, bucket, client):
    client.put_object(Bucket=bucket, Key=KEY, Body=NOTE, **locked(-1))
    with pytest.raises(AnchorError, match=r"the lock on \S+ ended on \d{4}-\d\d-\d\d; since then .*raise retain_days for later"):
        anchor.check(7, NOTE, b"")


def test_a_note_that_was_never_put(anchor):
    assert anchor.notes() == {}
    with pytest.raises(AnchorError, match="holds no checkpoint of size 7"):
        anchor.check(7, NOTE, b"")


def test_objects_of_others_are_left_alone_and_pages_are_turned(bucket, endpoint, client):
    for name in ("README", "7.note", "00000000000000000009.note.bak", "deeper/00000000000000000009.note"):
        client.put_object(Bucket=bucket, Key=f"airgate/audit/{name}", Body=b"theirs")
    client.put_object(Bucket=bucket, Key="00000000000000000009.note", Body=b"elsewhere")
    anchor = opened(bucket, endpoint)
    for _ in range(2):
        anchor.put(7, NOTE)
    assert anchor.notes() == {7: NOTE}


@pytest.mark.parametrize("prefix", ["", "/", "/Prüfung/a%20b/"])
def test_any_prefix(bucket, endpoint, client, prefix):
    anchor = one(f"s3://{bucket}{prefix}?endpoint={endpoint}")
    anchor.put(7, NOTE)
    assert anchor.notes() == {7: NOTE}
    assert versions(client, bucket)[0]["Key"] in ("00000000000000000007.note", "Prüfung/a b/00000000000000000007.note")


def test_what_is_too_large_is_no_note(anchor, bucket, client):
    with pytest.raises(AnchorError, match="more than 65536 bytes"):
        anchor.put(7, b"x" * 65537)
    client.put_object(Bucket=bucket, Key=KEY, Body=b"x" * 65537)
    with pytest.raises(AnchorError, match="more than 65536 bytes"):
        anchor.notes()


def test_a_bucket_that_is_not_there(endpoint):
    anchor = opened("nowhere", endpoint)
    with pytest.raises(AnchorError, match="s3://nowhere/airgate/audit: cannot write: .*NoSuchBucket.*Check bucket, endpoint"):
        anchor.put(7, NOTE)
    with pytest.raises(AnchorError, match="cannot read: .*NoSuchBucket"):
        anchor.notes()


def test_an_unreachable_endpoint(bucket):
    anchor = S3Anchor("s3://b/p", bucket, "p", endpoint="http://127.0.0.1:1", timeout=1)
    for act in (lambda: anchor.put(7, NOTE), anchor.notes, lambda: anchor.check(7, NOTE, b"")):
        with pytest.raises(AnchorError, match=r"s3://b/p: cannot (read|write): Could not connect .*127.0.0.1:1.*") as caught:
            act()
        assert "s3cret" not in str(caught.value) and "AKIATEST" not in str(caught.value)


@pytest.mark.parametrize("page", [b"Welcome", b"<?xml version='1.0'?><a"])
def test_what_is_no_s3_server(bucket, page):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        anchor = opened(bucket, f"http://127.0.0.1:{server.server_port}")
        try:
            for act in (lambda: anchor.put(7, NOTE), anchor.notes, lambda: anchor.check(7, NOTE, b"")):
                with pytest.raises(AnchorError, match=r"cannot (read|write): S3 answered .*\. Check bucket, endpoint"):
                    act()
        finally:
            server.shutdown()
            thread.join()


def test_without_credentials_it_says_so(bucket, endpoint, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AnchorError, match=r"cannot write: Unable to locate credentials.*as boto3 finds them"):
        opened(bucket, endpoint).put(7, NOTE)
