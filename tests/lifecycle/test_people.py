"""Which texts of a refusal are about whom: what is missed here stands in the log for ever."""

import pytest

from airgate.lifecycle.people import in_reasons


@pytest.mark.parametrize(("reason", "found"), [
    ("owner: ana diaz refused: too early", {"reasons.0": "Ana Diaz"}),
    ("owner: omar refused", {"reasons.0": "omar"}),
    ("owner: omarion is somebody else", {}),
    ("the request expired at noon", {}),
])
def test_a_reason_is_about_the_person_it_names(reason, found):
    assert in_reasons([reason], ["Ana Diaz", "omar"]) == found
