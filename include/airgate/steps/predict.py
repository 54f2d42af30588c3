"""Batch inference: the window's rows, scored by the version in production, as Parquet that appears whole or not."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

from airgate.contracts.part import Part
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.provenance import Provenance
from airgate.contracts.step import Window
from airgate.errors import ConfigError, ContractError
from airgate.steps.context import StepContext
from airgate.steps.data_repository import DataFile, Snapshot, open_snapshot
from airgate.steps.features import features_of
from airgate.steps.load import record, repository_of, select_days
from airgate.steps.manifest import digest_of, manifest_digest
from airgate.steps.model import Model
from airgate.steps.prediction_files import Day, PredictionFiles, try_mark
from airgate.steps.scoring import Scorer
from airgate.steps.versions import fetch_version

# Scores a day's files into a file of our own; gives the number of rows.
ScoreDay = Callable[[list[DataFile], date, Path], int]


def predict(live: dict[str, Any], output: str, ctx: StepContext, revision: str | None = None,
            part: Part | None = None) -> dict[str, Any]:
    """Score every day of the run's window, or of one `part` of it, with the version in production.

    `live` is {model, version, digest, signature}; the version's files are held against the digest and the signed
    promotion before they are read. `output` is an fsspec URL; a day's predictions go to
    <output>/<model>/date=YYYY-MM-DD/predictions.parquet, with the columns id, day, model, model_version, score
    (probability of class 1), predicted (1 when score is at least 0.5), and scored_at (UTC, the same for the whole
    run). The file's metadata say which run and version made it, see `contracts.provenance`. All days are scored
    before the first is published, and each file replaces its predecessor in one move. A run that fails while scoring
    leaves what was there; one that is killed while publishing several days leaves each day either old or new, and
    running it again finishes. A part's files are only laid beside their places, under names that no other try has: the step
    `publish` moves them when all parts are done.

    Gives {rows, files: [URL], output, digests, digest, model, version, model_digest}; `digests` is the manifest
    {date=.../predictions.parquet: file digest} and `digest` that of the manifest. For a part, `files` is empty and two more
    say what waits: `part`, and `staged` {date=.../predictions.parquet: hidden name}. Raises ArtifactError when the
    version is missing or is not the one of the digest, SignatureError when its promotion is not signed, DataError
    when a day is missing or its rows break a rule of `spec.data`, SpecError when features() mixes rows, ContractError
    or ConfigError when the call lacks something.
    """
    version, digest = identified(live, ctx)
    window, revision = (ctx.window, revision) if part is None else (part.window, part.revision)
    model = _model(ctx, version, digest, live.get("signature"))
    scorer = Scorer(ctx.spec, model, features_of(ctx.spec.name), version, datetime.now(UTC))
    root = f"{output.rstrip('/')}/{ctx.spec.name}"
    days = _Scoring(ctx, scorer, live, root).score(window, revision)
    place = PredictionFiles(root)
    ctx.check_fence()
    staged = place.stage(days, try_mark(ctx.run))
    digests = {one.name: one.digest for one in days}
    files = _publish(place, staged, digests) if part is None else []
    predicted = manifest_digest(digests)
    rows = sum(one.rows for one in days)
    ctx.fact("model_version", version)
    ctx.fact("model_digest", digest)
    ctx.fact("predictions_digest", predicted)
    ctx.log_metric("rows_scored", rows)
    shown = files or list(staged.values())
    ctx.progress(f"{rows} rows scored by version {version}: {', '.join(shown[:3])}{' ...' if len(shown) > 3 else ''}")
    result = {
        "rows": rows, "files": files, "output": output, "digests": digests, "digest": predicted,
        "model": ctx.spec.name, "version": version, "model_digest": digest,
    }
    return result if part is None else {**result, "part": part.model_dump(mode="json"), "staged": staged}


def identified(live: dict[str, Any], ctx: StepContext) -> tuple[str, str]:
    """Version and digest of the model to use. Raises ContractError when one is missing or it is another model's version."""
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


@dataclass(frozen=True)
class _Scoring:
    """Scores days into files of our own, one day after the other: here, or a day's files on Dask's workers."""

    ctx: StepContext
    scorer: Scorer
    live: dict[str, Any]
    root: str

    def score(self, window: Window, revision: str | None) -> list[Day]:
        """Score every day of a window. Raises DataError when one is missing or its rows break a rule."""
        ctx, results = self.ctx, []
        with open_snapshot(repository_of(ctx), revision) as snapshot, ExitStack() as stack:
            dataset = snapshot.dataset(ctx.spec.data.dataset)
            days = select_days(dataset, window, every_day=True)
            several = any(len(dataset.partitions[day]) > 1 for day in days)
            score = self._on_workers(snapshot, stack) if several and ctx.spec.inference.workers > 1 else self._here(snapshot)
            for day in days:
                target = ctx.workdir / f"predictions-{day}.parquet"
                rows = score(dataset.partitions[day], day, target)
                results.append(Day(day, target, rows, digest_of(target)))
            record(ctx, dataset, sum(one.rows for one in results), days)
        return results

    def _here(self, snapshot: Snapshot) -> ScoreDay:
        def score(files: list[DataFile], day: date, to: Path) -> int:
            paths = snapshot.fetch(files, self.ctx.workdir / "input")
            named = [(path, file.path.strip("/")) for path, file in zip(paths, files, strict=True)]
            rows = self.scorer.score(named, day, to, self._claim(day).metadata())
            for path in paths:  # a day's input is dropped when it is done
                path.unlink()
            return rows

        return score

    def _on_workers(self, snapshot: Snapshot, stack: ExitStack) -> ScoreDay:
        """The workers are there for as long as `stack` is open."""
        from airgate.steps import distributed  # only who asks for workers needs it

        ctx = self.ctx
        job = distributed.Job(
            spec=ctx.spec, claim=self._claim(ctx.window.start), envelope=self.live.get("signature"),
            tracking_uri=str(ctx.call.tracking_uri), repository=repository_of(ctx), commit=snapshot.commit,
            scored_at=self.scorer.scored_at, root=self.root, mark=try_mark(ctx.run))
        client = stack.enter_context(distributed.connected(ctx.spec.inference.workers, ctx.workdir))
        ctx.progress(f"a day's files are scored by {len(client.scheduler_info()['workers'])} Dask workers")
        return partial(distributed.score_day, client, job)

    def _claim(self, day: date) -> Provenance:
        run = self.ctx.run
        return Provenance(
            model=self.ctx.spec.name, version=self.scorer.version, model_digest=str(self.live["digest"]), day=day,
            dag_id=run.dag_id, run_id=run.run_id, task_id=run.task_id, try_number=run.try_number, map_index=run.map_index)


def _publish(place: PredictionFiles, staged: dict[str, str], digests: dict[str, str]) -> list[str]:
    """Move what this task alone has scored; what it could not move is not left lying."""
    try:
        return place.commit(staged, digests)
    finally:
        place.discard(staged.values())
