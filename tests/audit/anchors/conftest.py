import pytest

from airgate.audit.anchors import Anchor, open_anchors

NOTE = "airgate.example/audit\n7\nq83vEjRW=\n\n— airgate.example/audit AAAA\n".encode()
OTHER = NOTE.replace(b"q83v", b"AAAA")


def one(url: str) -> Anchor:
    (anchor,) = open_anchors(url)
    return anchor


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch, tmp_path):
    """Neither git nor boto3 may need, or be led astray by, what the user has set up."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
