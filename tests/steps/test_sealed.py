"""Steps in processes of their own over an encrypted store: the keys come by the environment, and plain files go with the step."""

from pathlib import Path

from airgate.encryption import keys


def test_steps_hand_on_what_is_encrypted(make_call, fork, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    held = {"AIRGATE_STORE_KEYS": "env:AIRGATE_STORE_KEY_RING", "AIRGATE_STORE_KEY_RING": keys.new_line("2026-01")}
    _, made, _ = fork(make_call("make", rows=5), **held)
    _, total, _ = fork(make_call("total", inputs={"data": made.output}, task="total"), **held)
    assert total.value == {"sum": 10.0}
    stored = [path for path in Path(tmp_path, "store", "sha256").rglob("*") if path.is_file()]
    assert len(stored) == 3 and all(path.suffix == ".enc" for path in stored)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_step_without_the_keys_says_so_and_is_not_tried_again(make_call, fork):
    held = {"AIRGATE_STORE_KEYS": "env:AIRGATE_STORE_KEY_RING", "AIRGATE_STORE_KEY_RING": keys.new_line("2026-01")}
    _, made, _ = fork(make_call("make", rows=5), **held)
    ended, refused, _ = fork(make_call("total", inputs={"data": made.output}, task="total"))
    assert (ended.code, refused.failure.error, refused.failure.retryable) == (65, "WrongKeyError", False)
    assert "is stored encrypted, and this process has no keys. Set AIRGATE_STORE_KEYS" in refused.failure.message
    held["AIRGATE_STORE_KEY_RING"] = keys.new_line("2026-02")
    _, refused, output = fork(make_call("total", inputs={"data": made.output}, task="other"), **held)
    assert "needs the key '2026-01', which AIRGATE_STORE_KEYS does not hold; did you mean '2026-02'" in refused.failure.message
    assert held["AIRGATE_STORE_KEY_RING"].split()[1] not in output + refused.model_dump_json()
