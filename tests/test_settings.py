"""What the environment says, and what it may not say."""

import os
from pathlib import Path

import pytest

from airgate import settings
from airgate.errors import ConfigError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AIRGATE_")]:
        monkeypatch.delenv(name)


def test_the_spool_lies_beside_the_rest_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRGATE_HOME", str(tmp_path))
    assert (settings.load().audit_spool, settings.load().audit_patience) == (tmp_path / "spool", 30.0)
    monkeypatch.setenv("AIRGATE_AUDIT_SPOOL", "/mnt/spool")
    assert settings.load().audit_spool == Path("/mnt/spool")
    monkeypatch.setenv("AIRGATE_AUDIT_SPOOL", "here")
    assert settings.load().audit_spool == Path.cwd() / "here"


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("2.5", 2.5), (" 60 ", 60.0)])
def test_patience_in_seconds(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("AIRGATE_AUDIT_PATIENCE", text)
    assert settings.load().audit_patience == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "inf", "nan", "1e999"])
def test_no_other_patience(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AIRGATE_AUDIT_PATIENCE", text)
    allowed = "a number of seconds, 0 or more, such as 30"
    with pytest.raises(ConfigError, match=f"AIRGATE_AUDIT_PATIENCE is '{text}'; allowed: {allowed}"):
        settings.load()
