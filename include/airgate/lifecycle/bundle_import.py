"""The light tasks of an import: the bundle is verified and put on record; this installation's gates judge what it carried."""

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airgate import settings
from airgate.audit.event import Actor, AuditEvent, event_id_of
from airgate.contracts import digests
from airgate.contracts.bundle import ImportedFrom
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate, Verdict
from airgate.contracts.step import ArtifactRef
from airgate.encryption import at_rest
from airgate.errors import ArtifactError, BundleError, GateError
from airgate.governance import carried_gates, identities
from airgate.lifecycle import bundle_check, bundle_sources, recording
from airgate.lifecycle.bundle_check import Checked
from airgate.lifecycle.bundle_origin import origin_of, stored_at
from airgate.lifecycle.candidate import REGISTER_TASK
from airgate.lifecycle.verdict import conclude
from airgate.runtime import bundle as told_to_steps
from airgate.runtime.live import live_of

BUNDLE_PARAM = "bundle"


class TakeBundle(BaseOperator):
    """Verifies the bundle whose digest the parameter `bundle` names, in the artifact store, and puts `bundle.imported` on record.

    A bundle that is refused is put on record too, with the reason, and the run ends there. Each bundle is taken once: the id
    of its record is made from the bundle's nonce. Gives what the steps are told.
    """

    airgate_role = "bundle"

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Verify and record. Raises AirflowFailException, which no retry follows, when the bundle or who offers it is refused."""
        digest = str(context["params"].get(BUNDLE_PARAM) or "")
        check_importer(recording.actor_of(context))
        try:
            event = self._take(context, digest)
        except BundleError as error:
            self._refuse(context, digest, error)
            raise AirflowFailException(f"refused ({error.reason}): {error}") from error
        imported = ImportedFrom.model_validate(event.body)
        self.log.info("version %s of %s, signed by %s, is sound; its log verifies up to %d events", imported.source_version,
                      imported.environment, imported.key, imported.checkpoint)
        return told_to_steps.told(event.event_id, dict(event.body))

    def _take(self, context: Any, digest: str) -> AuditEvent:
        with TemporaryDirectory(prefix="airgate-bundle-") as scratch:
            ref, path = _fetched(digest, Path(scratch))
            checked = bundle_check.check(path, bundle_sources.read(settings.load().bundle_sources))
        found = checked.statement.manifest.model
        if found != self.spec.name:
            raise BundleError("other model", f"the bundle is of {found}, and this DAG imports {self.spec.name}")
        return self._record(context, checked, ref)

    def _record(self, context: Any, checked: Checked, ref: ArtifactRef) -> AuditEvent:
        log, offered = recording.store(), imported_event(context, checked, ref)
        log.append_if_absent(offered)
        there = log.get(offered.event_id)
        if there is None:
            raise BundleError("replayed", "it was imported before, so long ago that the record's contents have expired")
        run = there.event.task.run_id if there.event.task else ""
        if run != context["ti"].run_id:
            raise BundleError("replayed", f"it was imported at {there.event.occurred_at:%Y-%m-%d %H:%M} UTC by run {run}. "
                              "A bundle is taken once; let the source export the version again")
        return there.event

    def _refuse(self, context: Any, digest: str, error: BundleError) -> None:
        body = {"bundle": digest[:100], "reason": error.reason, "message": str(error)[:2000]}
        recording.record(context, "bundle.refused", self.spec.name, None, body, once=("try", str(context["ti"].try_number)))


def check_importer(actor: Actor) -> None:
    """Hold that a person started the import: whoever imports a version asks for it, and cannot approve it.

    Raises AirflowFailException for anybody else, before the bundle is taken, so that it can be offered again.
    """
    if actor.kind != "user" or identities.load(settings.load().people).is_service(actor.name):
        kind = "a service account" if actor.kind == "user" else f"no person ({actor.kind})"
        raise AirflowFailException(f"this import was started by {kind}, so nobody's name would stand behind the request that "
                                   "comes of it. Start this DAG again under your own name; the bundle was not taken.")


def imported_event(context: Any, checked: Checked, ref: ArtifactRef) -> AuditEvent:
    """The record of an import. Its id is that of the bundle's nonce, so that there can be one."""
    imported = checked.imported(ref)
    return AuditEvent(
        event_id=event_id_of("bundle.imported", imported.environment, imported.nonce), kind="bundle.imported",
        occurred_at=datetime.now(UTC), model=imported.candidate.model, **recording.by(context),
        # Not masked: keys and digests with a letter changed are none.
        body=imported.model_dump(mode="json"),
        personal={f"people.{place}.name": person.name for place, person in enumerate(imported.people)})


class BundleVerdict(BaseOperator):
    """Judges the imported version by this installation's gates and emits `validated` on a pass, which opens a request here."""

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Record the verdict and give it. Raises AirflowFailException with one line a gate when one did not pass."""
        ti = context["ti"]
        registered = recording.newest_success(ti.dag_id, REGISTER_TASK, run_id=ti.run_id)
        candidate = Candidate.model_validate(recording.output_of(registered)) if registered else None
        imported = origin_of(candidate) if candidate else None
        if candidate is None or imported is None:
            raise GateError("the audit log has no imported version from this run. A task marked success by hand leaves none: "
                            "clear it and let it run.")
        live = live_of(self.spec.name)
        results = carried_gates.judge(imported, _evaluation(imported), self.spec.gates, live["digest"] if live else None)
        verdict = Verdict(candidate=candidate, passed=all(result.passed for result in results), gates=results,
                          gates_hash=self.spec.gates.fingerprint(), evaluation_digest=imported.evaluation,
                          production_version=live["version"] if live else None)
        return conclude(self, context, verdict)


def _fetched(digest: str, folder: Path) -> tuple[ArtifactRef, Path]:
    """The bundle of a digest from the artifact store, which verifies the digest."""
    from airgate.steps.store import ArtifactStore

    store = ArtifactStore(settings.load().artifact_store)
    try:
        ref = ArtifactRef(uri=stored_at(digest), digest=digest, kind="file", size=0)
    except ValueError:
        raise BundleError("missing", f"the parameter '{BUNDLE_PARAM}' is '{digest[:80]}'; allowed: 'sha256:' and 64 hex digits, "
                          "as `airgate bundle import` gives it") from None
    try:
        path = store.fetch(ref, folder / "bundle.zip")
    except ArtifactError as error:
        raise BundleError("missing", f"the bundle {digest} cannot be read from the artifact store: {error}") from None
    return ref.model_copy(update={"size": path.stat().st_size}), path


def _evaluation(imported: ImportedFrom) -> dict[str, Any]:
    raw = at_rest.read_bytes(stored_at(imported.evaluation))
    found = digests.of_bytes(raw)
    if found != imported.evaluation:
        raise GateError(f"the evaluation in the store has the digest {found}, the audit log says {imported.evaluation}: it was "
                        "changed. Import the version again.")
    return dict(json.loads(raw))
