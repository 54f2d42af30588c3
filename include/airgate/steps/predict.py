"""Batch inference: the window's rows, scored by the version in production, as Parquet that appears whole or not."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.provenance import FILE, Provenance, file_name
from airgate.contracts.step import Window
from airgate.errors import ConfigError, ContractError
from airgate.steps.context import StepContext
from airgate.steps.data_repository import open_snapshot
from airgate.steps.features import features_of
from airgate.steps.load import record, repository_of, select_days
from airgate.steps.manifest import digest_of, manifest_digest
from airgate.steps.model import Model
from airgate.steps.scoring import Scorer
from airgate.steps.versions import fetch_version


@dataclass(frozen=True)
class _Day:
    """One day's predictions, finished on this machine."""

    day: date
    path: Path
    rows: int
    digest: str

    @property
    def name(self) -> str:
        return file_name(self.day)


def predict(live: dict[str, Any], output: str, ctx: StepContext, revision: str | None = None) -> dict[str, Any]:
    """Score every day of the run's window with the version in production.

    `live` is {model, version, digest, signature}; the version's files are held against the digest and the signed
    promotion before they are read. `output` is an fsspec URL; a day's predictions go to
    <output>/<model>/date=YYYY-MM-DD/predictions.parquet, with the columns id, day, model, model_version, score
    (probability of class 1), predicted (1 when score is at least 0.5), and scored_at (UTC, the same for the whole
    run). The file's metadata say which run and version made it, see `contracts.provenance`. All days are scored
    before the first is published, and each file replaces its predecessor in one move. A run that fails while scoring
    leaves what was there; one that is killed while publishing several days leaves each day either old or new, and
    running it again finishes.

    Gives {rows, files: [URL], output, digests, digest, model, version, model_digest}; `digests` is the manifest
    {date=.../predictions.parquet: file digest} and `digest` that of the manifest. Raises ArtifactError when the
    version is missing or is not the one of the digest, SignatureError when its promotion is not signed, DataError
    when a day is missing or its rows break a rule of `spec.data`, SpecError when features() mixes rows, ContractError
    or ConfigError when the call lacks something.
    """
    version, digest = _identified(live, ctx)
    model = _model(ctx, version, digest, live.get("signature"))
    scorer = Scorer(ctx.spec, model, features_of(ctx.spec.name), version, datetime.now(UTC))
    days = _score(scorer, ctx.window, revision, ctx, digest)
    files = _publish(days, f"{output.rstrip('/')}/{ctx.spec.name}", f"{ctx.run.run_id}-{ctx.run.try_number}")
    digests = {one.name: one.digest for one in days}
    predicted = manifest_digest(digests)
    rows = sum(one.rows for one in days)
    ctx.fact("model_version", version)
    ctx.fact("model_digest", digest)
    ctx.fact("predictions_digest", predicted)
    ctx.log_metric("rows_scored", rows)
    ctx.progress(f"{rows} rows scored by version {version}: {', '.join(files[:3])}{' ...' if len(files) > 3 else ''}")
    return {
        "rows": rows, "files": files, "output": output, "digests": digests, "digest": predicted,
        "model": ctx.spec.name, "version": version, "model_digest": digest,
    }


def _identified(live: dict[str, Any], ctx: StepContext) -> tuple[str, str]:
    """Version and digest of the model to use; refuses another model's version."""
    missing = [key for key in ("model", "version", "digest") if not live.get(key)]
    if missing:
        raise ContractError(f"predict: `live` lacks {', '.join(missing)}; it needs model, version and digest.")
    if live["model"] != ctx.spec.name:
        raise ContractError(f"predict: `live` is a version of '{live['model']}', this run is about '{ctx.spec.name}'.")
    return str(live["version"]), str(live["digest"])


def _model(ctx: StepContext, version: str, digest: str, envelope: Any) -> Model:
    if not ctx.call.tracking_uri:
        raise ConfigError("predict: no MLflow is set, so no version can be fetched. Set AIRGATE_MLFLOW_URI.")
    return fetch_version(ctx.call.tracking_uri, ctx.spec.name, version, ctx.workdir / "model", digest,
                         envelope=envelope, stage=PRODUCTION)


def _score(scorer: Scorer, window: Window, revision: str | None, ctx: StepContext, digest: str) -> list[_Day]:
    """Score the window's days one after the other into files of our own; a day's input is dropped when it is done."""
    results = []
    with open_snapshot(repository_of(ctx), revision) as snapshot:
        dataset = snapshot.dataset(ctx.spec.data.dataset)
        days = select_days(dataset, window, every_day=True)
        for day in days:
            files = dataset.partitions[day]
            paths = snapshot.fetch(files, ctx.workdir / "input")
            target = ctx.workdir / f"predictions-{day}.parquet"
            named = [(path, file.path.strip("/")) for path, file in zip(paths, files, strict=True)]
            rows = scorer.score(named, day, target, _claim(ctx, scorer.version, digest, day).metadata())
            for path in paths:
                path.unlink()
            results.append(_Day(day, target, rows, digest_of(target)))
        record(ctx, dataset, sum(one.rows for one in results), days)
    return results


def _claim(ctx: StepContext, version: str, digest: str, day: date) -> Provenance:
    run = ctx.run
    return Provenance(model=ctx.spec.name, version=version, model_digest=digest, day=day, dag_id=run.dag_id, run_id=run.run_id,
                      task_id=run.task_id, try_number=run.try_number, map_index=run.map_index)


def _publish(days: list[_Day], root: str, run: str) -> list[str]:
    """Copy the finished files beside their places under a hidden name of this try, then move each into place."""
    filesystem, base = url_to_fs(root)
    mark = hashlib.sha256(run.encode()).hexdigest()[:16]
    staged = []
    try:
        for one in days:
            final = f"{base}/{one.name}"
            folder = final.rpartition("/")[0]
            filesystem.makedirs(folder, exist_ok=True)
            staged.append((f"{folder}/.{mark}.{FILE}", final))
            filesystem.put_file(str(one.path), staged[-1][0])
        for hidden, final in staged:
            filesystem.mv(hidden, final)
    finally:
        for hidden, _ in staged:
            with suppress(FileNotFoundError):
                filesystem.rm_file(hidden)
    return [str(filesystem.unstrip_protocol(final)) for _, final in staged]
