import json
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airgate.audit.canonical_json import FLOAT_KEY, SEALED_KEY, loads
from airgate.audit.entry import entry_bytes, parse_entry
from airgate.audit.event import (
    ALL_KINDS,
    KINDS,
    MAX_EVENT_BYTES,
    Actor,
    AuditEvent,
    TaskRef,
    canonical,
    event_id_for,
    event_id_of,
    parse,
    task_event,
)
from airgate.audit.merkle import leaf_hash
from airgate.audit.subjects import Subjects
from airgate.errors import AuditError

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "audit_event_v1.json").read_text("utf-8"))
TASK = TaskRef(dag_id="d", run_id="r", task_id="t", try_number=1)
ANA = Actor(kind="user", name="ana")


def event(**fields):
    return task_event("task.succeeded", TASK, actor=ANA, source="operator", **fields)


def test_every_kind_is_explained():
    assert tuple(KINDS) == ALL_KINDS


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_the_released_format_stays(case):
    data, entry = case["canonical"].encode(), case["entry"].encode()
    assert canonical(parse(data)) == data
    assert rfc8785.dumps(loads(entry)) == entry
    assert entry_bytes(data, case["seq"], case["stored_at"]) == entry
    assert leaf_hash(entry).hex() == case["leaf_hash"]
    assert canonical(parse_entry(entry, case["seq"], Subjects()).event) == data


@pytest.mark.parametrize("case", GOLDEN["event_ids"], ids=str)
def test_the_released_event_ids_stay(case):
    assert str(event_id_for(*case["parts"])) == case["event_id"]


def test_ids_tell_parts_apart():
    assert event_id_of("a", "b") != event_id_of("ab") != event_id_of("a,b")
    assert event_id_of(1) != event_id_of("1")
    assert event_id_of("a").version == 5


# Hypothesis takes words of the code as examples: the reserved keys are refused, and have a test of their own.
keys = st.text().filter(lambda key: key not in (FLOAT_KEY, SEALED_KEY))
plain = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats() | st.text()
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(keys, values, max_size=4))
def test_bytes_survive_reading_and_writing(body):
    data = canonical(event(body=body))
    assert canonical(parse(data)) == data


def test_what_json_cannot_hold_has_an_encoding():
    data = canonical(event(body={"loss": math.nan, "limits": [math.inf, -math.inf], "large": 1e20}))
    assert b'"large":100000000000000000000,"limits":[{"$float":"Infinity"},{"$float":"-Infinity"}]' in data
    assert b'"loss":{"$float":"NaN"}' in data
    again = parse(data).body
    assert math.isnan(again["loss"])
    assert again["limits"] == [math.inf, -math.inf]
    assert again["large"] == 1e20


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"rows": [1, 2**53]}, r"body.rows.1 is 9007199254740992; .* up to 2\^53 - 1 only: write it as a string"),
        ({"a": {"$float": "NaN"}}, r"body.a has the key '\$float', which is kept for NaN and infinity: rename it"),
        ({"a": "\ud800"}, "has no canonical JSON form: .*surrogates not allowed"),
        ({"a": "x" * MAX_EVENT_BYTES}, r"at most 65536 \(64 KiB\) are allowed. Store the large part as an artifact"),
    ],
)
def test_what_cannot_be_recorded_is_refused_with_the_reason(body, message):
    with pytest.raises(AuditError, match=message):
        canonical(event(body=body))


def test_deep_nesting_is_refused():
    body = {"a": []}
    for _ in range(70):
        body = {"a": body}
    with pytest.raises(AuditError, match="nested deeper than 64 levels"):
        canonical(event(body=body))


def test_the_size_limit_is_inclusive():
    spare = MAX_EVENT_BYTES - len(canonical(event(body={"a": ""}, occurred_at=datetime(2025, 1, 1, tzinfo=UTC))))
    assert len(canonical(event(body={"a": "x" * spare}))) == MAX_EVENT_BYTES


def test_times_are_utc_and_of_one_width():
    berlin = datetime(2025, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=1)))
    assert b'"occurred_at":"2025-01-01T00:00:00.000000Z"' in canonical(event(occurred_at=berlin))


@pytest.mark.parametrize(
    "wrong",
    [
        {"occurred_at": datetime(2025, 1, 1)}, {"model": ""}, {"model": "a\x00b"}, {"unknown": 1},
        {"body": {"a": 1j}},
    ],
    ids=str,
)
def test_a_wrong_event_cannot_be_made(wrong):
    with pytest.raises(ValidationError):
        event(**wrong)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"body": 1}'])
def test_what_is_no_event_is_refused(data):
    with pytest.raises(AuditError):
        parse(data)


def test_events_are_frozen():
    with pytest.raises(ValidationError):
        event().recovered = True


def test_an_event_without_a_task_is_fine():
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    made = AuditEvent(event_id=UUID(int=1), kind="drift.verdict", occurred_at=moment, actor=ANA, source="api")
    assert parse(canonical(made)) == made
