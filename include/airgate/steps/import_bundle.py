"""A model out of a bundle: its files are taken from an archive that was verified before, and it becomes a version here.

The task before verified signature, files and log (`airgate.lifecycle.bundle_check`) and put that on record; the operator holds
what the steps are told against that record. So the archive's digest is all that must be looked at here, and the store does that.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from airgate.contracts import plain_zip
from airgate.contracts.bundle import EVALUATION, MODEL, REPORTS
from airgate.contracts.manifest import manifest_digest
from airgate.contracts.payloads import Candidate
from airgate.contracts.step import ArtifactRef
from airgate.errors import ArtifactError
from airgate.steps import register as registering
from airgate.steps.context import StepContext
from airgate.steps.model import Model

REPORT_LIMIT = 256 << 20  # bytes


def unpack(bundle: dict[str, Any], ctx: StepContext) -> Model:
    """Give the model of a bundle; its reports are attached, which puts them into this installation's store.

    `bundle` is what the task `take` gives. Raises ArtifactError when the bundle is not in the store or not the one that was
    verified, or when its files are no sound model; BundleError when it is not in form.
    """
    folder = ctx.workdir / "unpacked"
    found: dict[str, str] = {}
    with plain_zip.reading(_fetched(bundle, ctx)) as archive:
        for name in archive.entries:
            if name.startswith(MODEL):
                found[name.removeprefix(MODEL)] = archive.extract(name, folder / name)
            elif name.startswith(REPORTS) and archive.entries[name].size <= REPORT_LIMIT:
                archive.extract(name, folder / name)
                ctx.attach(Path(name).name, folder / name)
    if manifest_digest(found) != bundle["model_digest"]:
        raise ArtifactError(f"the bundle's model has the digest {manifest_digest(found)}, verified was {bundle['model_digest']}")
    told = Candidate.model_validate(bundle["candidate"])
    ctx.fact("data_revision", told.data_revision)
    ctx.fact("data_hash", told.data_hash)
    return Model.load(folder / MODEL)


def register(model: Model, bundle: dict[str, Any], gates_hash: str, ctx: StepContext) -> dict[str, Any]:
    """Register the model as a version here, as training does; give the Candidate payload.

    The days and the data it was trained on are those of the source. `gates_hash` is the fingerprint of this installation's
    thresholds. Raises as `airgate.steps.register:register` does, and ArtifactError when `model` is not the bundle's.
    """
    given = ctx.call.inputs["model"].digest
    if given != bundle["model_digest"]:
        raise ArtifactError(f"the step before gave the model {given}; the bundle's is {bundle['model_digest']}")
    with plain_zip.reading(_fetched(bundle, ctx)) as archive:
        evidence = json.loads(archive.read(EVALUATION, REPORT_LIMIT))
    told = Candidate.model_validate(bundle["candidate"])
    facts = {**ctx.call.facts, "data_revision": told.data_revision, "data_hash": told.data_hash}
    call = ctx.call.model_copy(update={"facts": facts, "run": ctx.call.run.model_copy(update={"window": told.window})})
    evaluation = {"metrics": evidence["candidate"], "confidence": evidence["confidence"], "rows": evidence["rows"]}
    # No row of the source is here. The signature needs names and types alone.
    example = pd.DataFrame([dict.fromkeys(model.features, 0.0)])
    candidate = registering.register(model, example, evaluation, gates_hash, replace(ctx, call=call))
    return {**candidate, "flow": "bundle_import"}


def _fetched(bundle: dict[str, Any], ctx: StepContext) -> Path:
    """The archive, whose digest the store verifies."""
    return ctx.store.fetch(ArtifactRef.model_validate(bundle["bundle"]), ctx.workdir / "bundle.zip")
