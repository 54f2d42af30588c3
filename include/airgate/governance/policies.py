"""Airflow's cluster policies, installed by the entry point `airflow.policy`: what is refused, what every DAG and task carries.

Airflow loads this module in every process, so it imports next to nothing; the rules come when the first DAG does.
Both hooks run in the DAG processor and again in every task process, where a refused DAG cannot be loaded either.
"""

from typing import Any

from airflow.policies import hookimpl


@hookimpl  # type: ignore[untyped-decorator]
def dag_policy(dag: Any) -> None:
    """Refuse a DAG that breaks a rule of `dag_rules`; all of its violations stand in the import error. Append the callback.

    Raises AirflowClusterPolicyViolation. Airflow then hides the other DAGs of the same file too.
    """
    from airgate.governance.dag_rules import violations

    found = violations(dag)
    if found:
        from airflow.exceptions import AirflowClusterPolicyViolation

        raise AirflowClusterPolicyViolation(refusal(dag.dag_id, found))

    from airgate.governance.run_callbacks import on_run_ended

    for name in ("success", "failure"):
        _append(dag, f"on_{name}_callback", on_run_ended)
        # The scheduler goes by this, which Airflow worked out when the DAG was made.
        setattr(dag, f"has_on_{name}_callback", True)


@hookimpl  # type: ignore[untyped-decorator]
def task_policy(task: Any) -> None:
    """Append the governance callbacks to a task, mapped or not. The author's own callbacks stay and run first."""
    from airgate.governance import callbacks

    for name in ("execute", "success", "failure", "retry", "skipped"):
        _append(task, f"on_{name}_callback", getattr(callbacks, f"on_{name}"))


def refusal(dag_id: str, found: list[str]) -> str:
    """The text of the import error."""
    rules = "a rule" if len(found) == 1 else f"{len(found)} rules"
    head = f"DAG '{dag_id}' is refused: it breaks {rules} that nobody may skip."
    return "\n".join([head, *(f"- {text}" for text in found)])


def _append(owner: Any, attribute: str, callback: Any) -> None:
    present = _as_list(getattr(owner, attribute, None))
    if callback not in present:
        # A new list: the old one may be shared through default_args.
        setattr(owner, attribute, [*present, callback])


def _as_list(value: Any) -> list[Any]:
    if not value:
        return []
    return [value] if callable(value) else list(value)
