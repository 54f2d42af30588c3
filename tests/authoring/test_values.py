import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgate.authoring.signature import Parameter
from airgate.authoring.values import fault_of


def parameter(*types: str, choices: tuple[object, ...] = (), optional: bool = False) -> Parameter:
    return Parameter("x", "json", False, 1, frozenset(types), choices, optional)


@pytest.mark.parametrize(("types", "value"), [
    (("float",), 1), (("float",), 1.5), (("int",), 3), (("bool",), True), (("dict",), {"a": [1, None, {"b": 2.5}]}),
    (("list",), []), (("any",), None), (("any",), {"a": 1}), (("int", "str"), "a"), (("str",), "{{ run_id }}"),
])
def test_fits(types: tuple[str, ...], value: Any) -> None:
    assert fault_of(parameter(*types), value) is None


@pytest.mark.parametrize(("types", "value", "message"), [
    (("int",), True, "wants a JSON value of type int but is True, of type bool"),
    (("int",), 1.5, "wants a JSON value of type int but is 1.5, of type float"),
    (("str",), None, "wants a JSON value of type str but is None"),
    (("int", "str"), [], "wants a JSON value of type int or str but is [], of type list"),
    (("float",), float("nan"), "is nan, which JSON cannot say; give a finite number or None"),
    (("dict",), {"a": [1, float("inf")]}, "is inf at ['a'][1], which JSON cannot say"),
    (("dict",), {1: 2}, "has the key 1, of type int; the keys of a JSON object are text"),
    (("list",), [(1,)], "is of type tuple at [0], which is not JSON. Allowed: dict, list, str"),
    (("any",), object(), "is of type object, which is not JSON"),
])
def test_does_not_fit(types: tuple[str, ...], value: Any, message: str) -> None:
    assert message in str(fault_of(parameter(*types), value))


def test_a_literal_names_its_choices() -> None:
    choice = parameter("str", choices=("fast", "exact"), optional=True)
    assert fault_of(choice, "fast") is None
    assert fault_of(choice, None) is None
    assert fault_of(choice, "slow") == "is 'slow'; allowed: 'fast', 'exact'"


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "contains itself" in str(fault_of(parameter("list"), loop))


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates()),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner), max_leaves=8))
def test_what_passes_is_json(value: Any) -> None:
    if fault_of(parameter("any"), value) is None:
        assert json.loads(json.dumps(value, allow_nan=False)) == value
