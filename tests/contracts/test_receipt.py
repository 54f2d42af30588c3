"""How a step's receipt goes from its runner to its operator."""

from pathlib import Path

import pytest

from airgate.contracts import receipt
from airgate.errors import ArtifactError

DIGEST = "ab" * 32


def test_what_is_left_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with receipt.waited_for() as place:
        assert receipt.read(place.read_text()) is None
        monkeypatch.setenv(receipt.RECEIPT_FILE, str(place))
        receipt.leave(DIGEST)
        assert receipt.read(place.read_text()) == DIGEST
        assert place.parent.stat().st_mode & 0o077 == 0
    assert not place.parent.exists()


def test_nobody_waits_for_the_receipt_of_a_step_run_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(receipt.RECEIPT_FILE, raising=False)
    receipt.leave(DIGEST)


def test_a_receipt_that_cannot_be_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(receipt.RECEIPT_FILE, str(tmp_path / "gone" / "receipt"))
    with pytest.raises(ArtifactError, match="the result's receipt cannot be left: No such file or directory"):
        receipt.leave(DIGEST)


@pytest.mark.parametrize("text", [None, "", "sha256:", f"sha256:{'AB' * 32}", f"md5:{DIGEST}", f"x sha256:{DIGEST}",
                                  f"sha256:{DIGEST} and more", f"sha256:{DIGEST}{DIGEST}"])
def test_what_is_no_receipt(text: str | None) -> None:
    assert receipt.read(text) is None
