"""A local S3 server for whoever needs one. Used as fixtures: import both names into a conftest."""

import logging
from collections.abc import Iterator
from itertools import count

import httpx
import pytest

_buckets = count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that all tests of a worker share."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, which this process may open."""
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": s3_server,
                        "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    name = f"store-{next(_buckets)}"
    httpx.put(f"{s3_server}/{name}").raise_for_status()
    return f"s3://{name}"
