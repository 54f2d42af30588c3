"""What was changed in MLflow behind the promotion's back, and what is done about it: pure functions of log and registry.

MLflow lets whoever may write to a model move its aliases, change its tags, delete its versions and make new ones, and keeps no
record of it. The log says what should be there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from airgate.audit.registrations import Known
from airgate.audit.registry_changes import Change, Recorded, Records, gone
from airgate.audit.registry_state import RegistryState
from airgate.audit.versions import changed_versions
from airgate.contracts.stages import STAGE_TAG, STAGES
from airgate.governance.stages import Stages

# A move takes seconds. A claim that is older was left by a process that was killed, and is finished for it.
UNDER_WAY = timedelta(minutes=1)

Action = Literal["align", "set_tags", "none"]


@dataclass(frozen=True)
class View:
    """One look at one model: what MLflow has, and after that what the log says of its versions and stages."""

    state: RegistryState
    log: Known
    stages: Stages

    def approved(self, stage: str) -> str | None:
        """The version that a stage's alias must name: the one that was moved there, as long as MLflow has it."""
        stands = self.stages.state(stage)
        found = self.state.versions.get(stands.version) if stands.version is not None else None
        if found is None:
            return None
        # By the log where it tells: a digest that somebody changed in MLflow is set again before the alias is looked at.
        registered = self.log.registrations.get(found.version)
        digest = (registered.digest if registered else None) or found.digest
        return found.version if digest == stands.digest else None


@dataclass(frozen=True)
class Remedy:
    """What is done about a change. `align` sets a stage's alias as the log has it, `set_tags` gives a version its tags back."""

    action: Action
    text: str


def changes(view: View, now: datetime) -> list[Change]:
    """Name every difference between what the log says of a model and what MLflow has.

    The alias of a stage that is being moved now, and the tags that show the stages of a model where something was moved just
    now, are none: whoever moves them answers for them.
    """
    stages, state = view.stages, view.state
    moving = stages.claim.body.stage if stages.claim is not None and not is_left(stages, now) else None
    just_moved = bool(stages.moves) and now - stages.moves[-1].stored_at <= UNDER_WAY
    found = list(changed_versions(view.log, state, None if moving or just_moved else stages.stage_of))
    for stage in STAGES:
        there = state.aliases.get(stage)
        if stage != moving and there != view.approved(stage):
            found.append(Change("alias.changed", state.model, stage, before=stages.state(stage).version, after=there))
    found += [Change("alias.created", state.model, alias, after=version)
              for alias, version in sorted(state.aliases.items()) if alias not in STAGES]
    return found


def is_left(stages: Stages, now: datetime) -> bool:
    """Whether a move was begun and nobody is at it any more."""
    return stages.claim is not None and now - stages.claim.stored_at > UNDER_WAY


def remedy(change: Change, view: View) -> Remedy:
    """What is to be done about a change."""
    if change.what == "tags.changed":
        return Remedy("set_tags", "the tags on record are set again")
    if change.what == "alias.changed":
        approved = view.approved(change.subject)
        lost = f": version {change.before} is not in MLflow as it was approved" if change.before else ""
        return Remedy("align", f"the alias is set to version {approved} again" if approved else f"the alias is removed{lost}")
    if change.what == "version.created":
        return Remedy("none", "left as it is: no promotion takes it, and nothing is scored with it")
    if change.what in ("alias.created", "stage.set"):
        return Remedy("none", "left as it is: Airgate loads nothing by it")
    return Remedy("none", _lost(change, view.stages))


def _lost(change: Change, stages: Stages) -> str:
    held = [stage for stage, version in stages.stages.items() if version is not None and change.subject in ("", version)]
    if not held:
        return "none: MLflow cannot bring it back"
    return (f"MLflow cannot bring it back. It stands in {' and '.join(held)}: nothing is scored with it any more. Go back to the "
            f"version before with the DAG {change.model}_rollback, or promote another")


def unshown(view: View) -> Iterator[tuple[str, str]]:
    """Versions that stand in a stage and lack the tag that shows it, with that stage. A move sets it after all else."""
    for version in view.state.versions.values():
        stage = view.stages.stage_of(version.version)
        if stage is not None and STAGE_TAG not in version.tags:
            yield version.version, stage


def closed(on_record: Records, found: Iterable[Change]) -> list[Recorded]:
    """The records of changes that are in MLflow no more: somebody put them back."""
    standing = {change.key for change in found}
    return [recorded for key, recorded in on_record.items() if key not in standing and not recorded.restored]


def blocking(on_record: Records, version: str) -> str | None:
    """Why nothing may be scored with a version; None where nothing is on record against it."""
    recorded = gone(on_record, version)
    if recorded is None:
        return None
    change = recorded.change
    return (f"{change.line()} (event {recorded.event_id}, registry.changed). Nothing is scored with it: go back to the version "
            f"before with the DAG {change.model}_rollback, or promote another.")
