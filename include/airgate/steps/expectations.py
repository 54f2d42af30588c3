"""`model.yaml`'s rules about values, put to Great Expectations: ranges, allowed values, missing values, ids, labels."""

from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from airgate.contracts.model_spec import ColumnSpec, DataSpec
from airgate.errors import StepError
from airgate.steps.table_check import SHOWN, Finding, examples
from airgate.steps.value_rules import allowed_values, bounds_text, nulls_text

# In memory, with no documentation site: that would leave a temporary folder behind for every check.
_SETTINGS = DataContextConfig(
    store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
    progress_bars=ProgressBarsConfig(globally=False),
    analytics_enabled=False,
)


@dataclass(frozen=True)
class _Rule:
    column: str
    expected: str
    kind: type[Any]
    arguments: dict[str, Any]


def run(data: pd.DataFrame, spec: DataSpec, *, labelled: bool) -> list[Finding]:
    """Check a table whose structure is sound; one finding a rule, passed or not.

    `labelled` adds the rules of training data: at least `min_rows` rows, a label in every row, both classes. Raises
    StepError when Great Expectations could not compute a rule, SpecError when `allowed` does not fit a column's type.
    """
    rules = _rules(spec, labelled=labelled)
    context = gx.get_context(mode="ephemeral", project_config=_SETTINGS)
    batch = (
        context.data_sources.add_pandas("rows")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("rows")
        .get_batch({"dataframe": data})
    )
    # The rule's number travels in `meta`: Great Expectations gives results in an order of its own.
    asked = [rule.kind(**rule.arguments, meta={"rule": number}) for number, rule in enumerate(rules)]
    suite = gx.ExpectationSuite(name=spec.dataset, expectations=asked)
    answer = batch.validate(suite, result_format={"result_format": "SUMMARY", "partial_unexpected_count": SHOWN})
    by_rule = {one.expectation_config.meta["rule"]: one for one in answer.results}
    return [_finding(by_rule[number], rule, data, spec) for number, rule in enumerate(rules)]


def _rules(spec: DataSpec, *, labelled: bool) -> list[_Rule]:
    rules = [
        _Rule(spec.id, "an id in every row", gxe.ExpectColumnValuesToNotBeNull, {"column": spec.id}),
        _Rule(spec.id, "each id once", gxe.ExpectColumnValuesToBeUnique, {"column": spec.id}),
    ]
    if labelled:
        label = {"column": spec.label}
        at_least, both = {"min_value": spec.min_rows}, {**label, "value_set": [0, 1]}
        rules += [
            _Rule("table", f"at least {spec.min_rows} rows", gxe.ExpectTableRowCountToBeBetween, at_least),
            _Rule(spec.label, "a label in every row", gxe.ExpectColumnValuesToNotBeNull, label),
            _Rule(spec.label, "0 or 1", gxe.ExpectColumnValuesToBeInSet, both),
            _Rule(spec.label, "rows of both classes, 0 and 1", gxe.ExpectColumnDistinctValuesToContainSet, both),
        ]
    return rules + [rule for name, column in spec.columns.items() for rule in _column_rules(name, column)]


def _column_rules(name: str, column: ColumnSpec) -> list[_Rule]:
    # Rounded, or 1 - 0.7 would ask for more than 30 % of the values.
    share = {"column": name, "mostly": round(1 - column.max_null, 12)}
    rules = [_Rule(name, nulls_text(column), gxe.ExpectColumnValuesToNotBeNull, share)]
    if column.min is not None or column.max is not None:
        bounds = {"column": name, "min_value": column.min, "max_value": column.max}
        rules.append(_Rule(name, bounds_text(column), gxe.ExpectColumnValuesToBeBetween, bounds))
    if column.allowed is not None:
        allowed = {"column": name, "value_set": allowed_values(name, column)}
        rules.append(_Rule(name, f"one of {', '.join(column.allowed)}", gxe.ExpectColumnValuesToBeInSet, allowed))
    return rules


def _finding(answer: Any, rule: _Rule, data: pd.DataFrame, spec: DataSpec) -> Finding:
    """Turn one result of Great Expectations into ours."""
    result = answer.result
    if not answer.success and not result:
        raise StepError(f"{rule.column}: '{rule.expected}' could not be computed: {_why(answer.exception_info)}")
    if "unexpected_count" not in result or rule.kind is gxe.ExpectColumnDistinctValuesToContainSet:
        observed = "" if answer.success else _observed(rule, data)
        return Finding(rule.column, rule.expected, bool(answer.success), len(data), observed=observed)
    broken = [] if answer.success else result.get("partial_unexpected_index_list") or []
    shown = examples(data, spec, rule.column, [int(position) for position in broken])
    return Finding(rule.column, rule.expected, bool(answer.success), len(data), int(result["unexpected_count"]), shown)


def _observed(rule: _Rule, data: pd.DataFrame) -> str:
    if rule.column == "table":
        return f"it has {len(data)}"
    values = sorted(data[rule.column].dropna().unique().tolist())
    return f"the only values are {', '.join(map(str, values[:SHOWN])) or 'none'}"


def _why(info: dict[str, Any]) -> str:
    parts = [info, *(one for one in info.values() if isinstance(one, dict))]
    messages = [part.get("exception_message") for part in parts]
    return next((str(one) for one in messages if one), "Great Expectations gave no reason")
