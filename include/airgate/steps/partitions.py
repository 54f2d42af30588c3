"""A window cut into parts, which several tasks score beside each other, all from the same commit of the data."""

from datetime import date, timedelta

from airgate.contracts.part import Part
from airgate.contracts.step import Window
from airgate.steps.context import StepContext
from airgate.steps.data_repository import open_snapshot
from airgate.steps.load import repository_of, select_days

# Airflow spends about a second and a row of its database on each task, and their list must fit into an XCom.
MOST_PARTS = 200


def partition(ctx: StepContext, revision: str | None = None) -> list[Part]:
    """Cut the run's window into parts of `inference.part_days` days, or longer ones where that makes more than 200.

    Every part names the commit that `revision` is now, so that a push while they are scored changes nothing. `revision` is a
    branch, tag or commit; None is the head of the default branch. Facts: data_revision, data_hash. Raises DataError when a day
    of the window has no partition: before any of them is scored.
    """
    with open_snapshot(repository_of(ctx), revision) as snapshot:
        dataset = snapshot.dataset(ctx.spec.data.dataset)
        days = select_days(dataset, ctx.window, every_day=True)
    parts = parts_of(ctx.window, ctx.spec.inference.part_days or len(days), dataset.commit)
    ctx.fact("data_revision", dataset.commit)
    ctx.fact("data_hash", dataset.data_hash)
    ctx.progress(f"{len(days)} days from {days[0]} to {days[-1]} in {len(parts)} parts, data at {dataset.commit[:12]}")
    return parts


def parts_of(window: Window, part_days: int, revision: str) -> list[Part]:
    """Cut a window into parts of `part_days` days (the last may be shorter), at most MOST_PARTS of them. Each day is in one."""
    total = (window.end - window.start).days
    length = max(part_days, -(-total // MOST_PARTS))
    starts = [window.start + timedelta(days=n) for n in range(0, total, length)]
    spans = [(start, min(start + timedelta(days=length), window.end)) for start in starts]
    return [Part(name=str(start) if (end - start).days == 1 else f"{start} to {end - timedelta(days=1)}", start=start, end=end,
                 revision=revision) for start, end in spans]


def days_of(window: Window) -> list[date]:
    """The days of a window, in order."""
    return [window.start + timedelta(days=n) for n in range((window.end - window.start).days)]
