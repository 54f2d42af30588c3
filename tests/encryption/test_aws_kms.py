"""Data keys wrapped by a KMS over the network, as AWS's own client speaks to it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from airgate.encryption import keys, rotation
from airgate.encryption.keys import WrongKeyError
from airgate.errors import ArtifactError
from airgate.steps.store import ArtifactStore

SOURCE = "kms:airgate.encryption.aws_kms:AwsKms?alias/airgate"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def kms(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A KMS with one key, under an alias, which this process reaches by its environment."""
    for name, value in {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_DEFAULT_REGION": "eu-central-1",
                        "AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("kms")
    client.create_alias(AliasName="alias/airgate", TargetKeyId=client.create_key()["KeyMetadata"]["KeyId"])
    yield client
    client.delete_alias(AliasName="alias/airgate")
    client.close()


def test_an_alias_moves_to_another_key_and_a_rotation_follows(kms, tmp_path: Path) -> None:
    root = f"file://{tmp_path}/store"
    before = keys.load(SOURCE)
    ref = ArtifactStore(root, before).put_json({"a": 1})
    assert rotation.status(root).wrapped_by == {before.current: 1} and before.current.startswith("arn:aws:kms:eu-central-1:")
    kms.update_alias(AliasName="alias/airgate", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    after = keys.load(SOURCE)
    assert after.current != before.current
    assert ArtifactStore(root, after).fetch(ref, tmp_path / "x").read_bytes() == b'{"a":1}'
    done = rotation.rotate(root, after)
    assert (done.rewrapped, done.failed) == (1, []) and rotation.status(root).wrapped_by == {after.current: 1}
    assert ArtifactStore(root, after).fetch(ref, tmp_path / "y").read_bytes() == b'{"a":1}'


def test_what_is_wrapped_stands_for_one_data_key(kms) -> None:
    service = keys.load(SOURCE)
    wrapped = service.wrap(bytes(32), "a" * 64)
    assert service.unwrap(service.current, wrapped, "a" * 64) == bytes(32)
    with pytest.raises(WrongKeyError, match="AWS KMS refused decrypt with the key arn:.*: InvalidCiphertextException"):
        service.unwrap(service.current, wrapped, "b" * 64)


def test_a_key_that_is_not_there_and_a_service_that_is_not(kms, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongKeyError, match=r"AWS KMS refused describe_key with the key alias/none: NotFoundException"):
        _ = keys.load(f"{SOURCE.partition('?')[0]}?alias/none").current
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ArtifactError, match="AWS KMS did not answer describe_key: Could not connect .* Check region"):
        _ = keys.load(SOURCE).current
