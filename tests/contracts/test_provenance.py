"""What a prediction file says of itself, and what cannot be read."""

from datetime import date

import pytest

from airgate.contracts.provenance import KEY, Provenance, claim_in, file_name
from airgate.errors import DataError

CLAIM = Provenance(model="tumour", version="3", model_digest="sha256:" + "a" * 64, day=date(2026, 1, 9), dag_id="d", run_id="r",
                   task_id="predict", try_number=2)


def test_what_is_written_is_read_again():
    [(key, text)] = CLAIM.metadata().items()
    assert claim_in({b"other": b"x", key.encode(): text.encode()}, "f") == CLAIM
    assert file_name(CLAIM.day) == "date=2026-01-09/predictions.parquet"


def test_a_file_without_a_claim_makes_none():
    assert claim_in(None, "f") is None
    assert claim_in({b"pandas": b"{}"}, "f") is None


@pytest.mark.parametrize(("text", "wrong"), [
    (b"{}", "model: Field required"), (b"\xff", "document: Invalid JSON"),
    (CLAIM.model_dump_json().replace('"3"', "3").encode(), "version: Input should be a valid string"),
])
def test_a_claim_that_cannot_be_read_says_what_is_wrong(text, wrong):
    with pytest.raises(DataError) as caught:
        claim_in({KEY.encode(): text}, "scores.parquet")
    assert str(caught.value).startswith(f"scores.parquet: its metadata 'airgate.provenance' cannot be read: {wrong}")
    assert str(caught.value).endswith("name the model (--model) to look the file up by its bytes alone.")
