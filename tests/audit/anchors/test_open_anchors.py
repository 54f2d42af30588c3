import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate import settings
from airgate.audit.anchors import AnchorError, open_anchors
from airgate.audit.anchors.base import file_name, size_of
from airgate.errors import AuditError, ConfigError

CERTIFICATES = "certificates=/etc/ca.pem"


def test_every_kind_is_opened_and_touches_nothing():
    text = f"""
        file:///srv/anchors, git+file:///srv/clone?remote=origin&branch=audit/main
        s3://bucket/some/prefix?retain_days=30&mode=GOVERNANCE&endpoint=http://127.0.0.1:9000&region=eu-west-1,
        tsa+https://ana:p%40ss%2Cword@tsa.example:8443/a%20b?{CERTIFICATES}
    """
    anchors = open_anchors(text)
    assert [type(anchor).__name__ for anchor in anchors] == ["DirectoryAnchor", "GitAnchor", "S3Anchor", "TimestampAnchor"]
    assert [anchor.name for anchor in anchors] == [
        "file:///srv/anchors", "git+file:///srv/clone", "s3://bucket/some/prefix", "tsa+https://tsa.example:8443/a%20b"]


@pytest.mark.parametrize("text", ["", "  ", ",\n,"])
def test_an_empty_setting_is_no_anchor(text):
    assert open_anchors(text) == []


def test_the_setting_is_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("AIRGATE_AUDIT_ANCHORS", raising=False)
    assert settings.load().audit_anchors == ""
    monkeypatch.setenv("AIRGATE_AUDIT_ANCHORS", "file:///srv/anchors")
    assert settings.load().audit_anchors == "file:///srv/anchors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/srv/anchors", "entry 1 is no URL; allowed schemes: file, git.file, s3, tsa.http, tsa.https. A path is written file://"),
        ("file:///a secret-word", "entry 2 is no URL; .* A comma or a space in a URL is written %2C or %20$"),
        ("files:///a", "entry 1 has the scheme 'files'; did you mean 'file'"),
        ("https://u:secret@tsa.example", r"has the scheme 'https'; did you mean 'tsa\+https'\? Allowed: file, "),
        ("file://srv/anchors", "file://srv/anchors names the machine 'srv'; a path has three slashes: file:///PATH"),
        ("file:///srv/../etc", r"file:///srv/../etc has no usable path; write the absolute path of a folder, without '..'"),
        ("file:///srv/%2e%2e/etc", "without '..'"),
        ("file:///srv/a%00b", "no usable path"),
        ("file:///", "no usable path"),
        ("file:///srv/%ff", r"entry 1 \(file\) cannot be read"),
        ("file:///a\x1b[2Jb", r"entry 1 \(file\) cannot be read"),
        ("file:///a#b", r"entry 1 \(file\) cannot be read"),
        ("file:///a?mode=x", "has the option 'mode'; Allowed: nothing"),
        ("file:///a,file:///a", "file:///a stands there twice; name each place once"),
        ("git+file:///a?remot=x", r"has the option 'remot'; did you mean 'remote'\? Allowed: branch, remote"),
        ("git+file:///a?remote=x&remote=y", r"entry 1 \(git\+file\) cannot be read.* each option once"),
        ("git+file:///a?remote=", "cannot be read"),
        ("git+file:///a?remote=https://u:secret@h/r", "has a remote that is no name; add it to the clone by `git remote "),
        ("git+file:///a?remote=--upload-pack=x", "a remote that is no name"),
        ("git+file:///a?branch=-x", "has a branch that is no name; allowed: letters"),
        ("git+file:///a?branch=a..b", "a branch that is no name"),
        ("s3://B/p", "s3://B/p names no bucket; write s3://BUCKET/PREFIX; its name has 3 to 63"),
        ("s3:///p", "names no bucket"),
        ("s3://bucket/a/../b", r"has a prefix with '.', '..' or unprintable characters"),
        ("s3://bucket/p?mode=COMPLIENCE", r"has the mode 'COMPLIENCE'; did you mean 'COMPLIANCE'\? Allowed: COMPL"),
        ("s3://bucket/p?mode=compliance", "did you mean 'COMPLIANCE'"),
        ("s3://bucket/p?retain_days=0", "has retain_days=0; allowed: 1 to 36500"),
        ("s3://bucket/p?retain_days=1e3", "has retain_days=1e3; allowed: 1 to 36500"),
        ("s3://bucket/p?retain_days=36501", "allowed: 1 to 36500"),
        ("s3://bucket/p?retain=1", "did you mean 'retain_days'"),
        ("s3://bucket/p?endpoint=http://h:port", "has an endpoint that is no address"),
        ("s3://bucket/p?endpoint=localhost:9000", "has an endpoint that is no address; write http://HOST:PORT"),
        ("s3://bucket/p?endpoint=http://u:secret@h", "has an endpoint that is no address"),
        ("s3://key:secret@bucket/p", "s3://bucket/p has a user or password, which do not belong in this URL"),
        ("tsa+https://h/p", r"does not say whom to trust; add \?certificates=/path/to/ca.pem"),
        ("tsa+https://h/p?certificates=ca.pem", "does not say whom to trust"),
        (f"tsa+https:///p?{CERTIFICATES}", "names no host"),
        (f"tsa+https://h:port/p?{CERTIFICATES}", r"entry 1 \(tsa\+https\) cannot be read"),
        (f"tsa+http://u:secret@h/?{CERTIFICATES}", "tsa.http://h/ would send a password in the clear; use tsa.https"),
        (f"tsa+https://u:sec@ret@h/?{CERTIFICATES}", r"entry 1 \(tsa\+https\) cannot be read.*%40 for '@'"),
        (f"tsa+https://u:sec/ret@h/?{CERTIFICATES}", r"entry 1 \(tsa\+https\) cannot be read"),
        (f"tsa+https://u:sec,ret@h/?{CERTIFICATES}", r"entry 1 \(tsa\+https\) cannot be read"),
        (f"tsa+https://h/?token=secret&{CERTIFICATES}", r"has the option 'token'; Allowed: certificates"),
        ("tsa+https://h/?secret", r"entry 1 \(tsa\+https\) cannot be read"),
        ("file:///srv/a,nota-secret", "entry 2 is no URL"),
    ],
)
def test_a_setting_that_cannot_serve_is_refused_without_its_secrets(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_anchors(text)
    assert str(caught.value).startswith("AIRGATE_AUDIT_ANCHORS: ")
    assert not [word for word in ("secret", "sec@", "sec/", "ret@", ":sec", "key") if word in str(caught.value)]
    assert caught.value.__cause__ is None and caught.value.__suppress_context__ == (caught.value.__context__ is not None)


def test_a_long_name_fits_a_column_and_two_stay_two():
    folder = "file:///" + "a" * 300
    first, second = open_anchors(f"{folder}/1 {folder}/2")
    assert len(first.name) == len(second.name) == 200 and first.name != second.name
    assert first.name.startswith("file:///aaa")


@given(st.integers(0, 10**20 - 1))
def test_a_file_says_its_size(size):
    assert size_of(file_name(size)) == size
    assert len(file_name(size)) == 25


@pytest.mark.parametrize("size", [-1, 10**20])
def test_what_is_no_size_names_no_file(size):
    with pytest.raises(AnchorError, match=f"a checkpoint's size is {size}; allowed: 0 to 9{{20}}"):
        file_name(size)


@pytest.mark.parametrize("name", ["", "1.note", "00000000000000000001.note.tmp", "0000000000000000000\u0661.note",
                                  "00000000000000000001.note\n", "-0000000000000000001.note", "../00000000000000000001.note"])
def test_other_names_are_no_checkpoints(name):
    assert size_of(name) is None


def test_an_anchor_error_is_an_audit_error_and_opening_loads_nothing_heavy():
    assert issubclass(AnchorError, AuditError)
    code = ("import sys; from airgate.audit.anchors import open_anchors; open_anchors('s3://bucket/p file:///a');"
            "print([m for m in ('boto3', 'botocore', 'httpx', 'rfc3161_client', 'cryptography') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
