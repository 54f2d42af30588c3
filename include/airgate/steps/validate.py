"""The data gate: rows that break a rule of `model.yaml` stop the run, with a list that an engineer can work from."""

import json
from html import escape

import pandas as pd

from airgate.contracts.model_spec import DataSpec
from airgate.errors import DataError
from airgate.steps.context import StepContext
from airgate.steps.table_check import Finding, cast, finiteness, message, structure

_ADVICE = "Correct the data, or change the rule in model.yaml under data. Every check is in data_check.html."


def check(data: pd.DataFrame, ctx: StepContext) -> pd.DataFrame:
    """Check labelled rows against `spec.data`; give them back, cast to the spec's types.

    First the structure (columns, types), then finiteness, then by Great Expectations: ranges, allowed and missing
    values, ids, labels of both classes, `min_rows`. Attaches data_check.json and data_check.html, for sound data too.
    Raises DataError with one line for each rule that failed.
    """
    return _check(data, ctx, labelled=True)


def check_unlabelled(data: pd.DataFrame, ctx: StepContext) -> pd.DataFrame:
    """As `check`, for rows to be scored: the label may be missing and is not judged, and one row is enough."""
    return _check(data, ctx, labelled=False)


def _check(data: pd.DataFrame, ctx: StepContext, *, labelled: bool) -> pd.DataFrame:
    spec = ctx.spec.data
    findings = structure(data, spec, labelled=labelled)
    if not findings:
        data = cast(data, spec)
        findings = [*finiteness(data, spec), *_values(data, spec, labelled=labelled)]
    _attach(findings, len(data), ctx)
    if not all(finding.passed for finding in findings):
        raise DataError(message(f"{spec.dataset}: {len(data)} rows refused", findings, _ADVICE))
    ctx.progress(f"{len(data)} rows passed {len(findings)} checks")
    return data


def _values(data: pd.DataFrame, spec: DataSpec, *, labelled: bool) -> list[Finding]:
    # Imported here: it takes seconds, and a table with the wrong columns is refused without it.
    from airgate.steps import expectations

    return expectations.run(data, spec, labelled=labelled)


def _attach(findings: list[Finding], rows: int, ctx: StepContext) -> None:
    """Keep the findings for machines (JSON) and for people (a small HTML page without scripts)."""
    passed = all(finding.passed for finding in findings)
    report = {
        "schema_version": 1,
        "dataset": ctx.spec.data.dataset,
        "rows": rows,
        "passed": passed,
        "checks": [
            {"column": one.column, "expected": one.expected, "passed": one.passed, "violated": one.violated,
             "examples": list(one.examples), "observed": one.observed}
            for one in findings
        ],
    }
    path = ctx.workdir / "data_check.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    ctx.attach(path.name, path)
    page = ctx.workdir / "data_check.html"
    title = f"{ctx.spec.data.dataset}: {rows} rows {'passed' if passed else 'refused'}"
    page.write_text(_html(findings, title), encoding="utf-8")
    ctx.attach(page.name, page)


def _html(findings: list[Finding], title: str) -> str:
    """A table of the findings, failed ones first."""
    ordered = sorted(findings, key=lambda one: one.passed)
    cells = [
        (one.column, one.expected, "passed" if one.passed else "failed",
         "" if one.violated is None else str(one.violated),
         "; ".join(filter(None, [", ".join(one.examples), one.observed])))
        for one in ordered
    ]
    body = "\n".join(
        f"<tr class={row[2]}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        "<style>body{font:14px sans-serif;margin:2em}td,th{padding:.3em .8em;text-align:left}"
        ".failed{background:#fde8e8;font-weight:600}</style>"
        f"<h1>{escape(title)}</h1>"
        "<table><tr><th>Column<th>Expected<th>Result<th>Rows against it<th>First examples</tr>\n"
        f"{body}\n</table></html>\n"
    )
