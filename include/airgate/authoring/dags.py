"""What every DAG of a model has in common: its id, owner, tags, dates, documentation and the `day` parameter."""

from collections.abc import Mapping
from datetime import UTC, datetime, time
from typing import Any

from airflow.sdk import DAG, Param

from airgate.authoring.timetable import FeedTimetable
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.runs import Flow, dag_id
from airgate.runtime.window import DAY_PARAM

# These work on the days of their run; the others on a candidate or a verdict that names its own.
OF_A_DAY: tuple[Flow, ...] = ("training", "batch_inference", "drift_check")
# A model waits for its turn here, so that two runs never decide about one model at the same time.
ONE_AT_A_TIME: tuple[Flow, ...] = ("validation", "promotion", "retraining", "bundle_import")
# A rollback is an emergency: it does not wait for the review of those before it, which takes days. The log is its lock.
MANY_AT_A_TIME: tuple[Flow, ...] = ("rollback",)


def model_dag(spec: ModelSpec, flow: Flow, *, schedule: Any = None, doc: str | None = None,
              params: Mapping[str, Param] | None = None, **options: Any) -> DAG:
    """Make the DAG `<model>_<flow>`.

    `schedule` is a cron expression (its runs get the interval between two ticks, which selects the partitions), an
    asset, or None. `params` are further fields of the trigger form. Runs of the past come from backfills, so `catchup` is off.
    """
    if isinstance(schedule, str):
        schedule = FeedTimetable(schedule, last_day=spec.schedule.end)
    return DAG(
        dag_id=dag_id(spec.name, flow),
        dag_display_name=f"{spec.title}: {flow.replace('_', ' ')}",
        description=spec.purpose,
        doc_md=doc,
        schedule=schedule,
        start_date=datetime.combine(spec.schedule.start, time(), UTC),
        catchup=False,
        max_active_runs=1 if flow in ONE_AT_A_TIME else 32 if flow in MANY_AT_A_TIME else 4,
        tags={"airgate", spec.name, flow, f"risk:{spec.risk}"},
        params={**({DAY_PARAM: day_param()} if flow in OF_A_DAY else {}), **(params or {})},
        default_args={"owner": spec.owner},
        **options,
    )


def day_param() -> Param:
    """The `day` field of the trigger form."""
    return Param(None, type=["null", "string"], format="date",
                 description="The day to work on. Empty: the run's data interval, or yesterday.")
