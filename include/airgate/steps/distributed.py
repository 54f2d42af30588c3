"""One huge day on many processes: Dask spreads its files, each worker reads, verifies and scores for itself.

What travels is small: which file of which commit, which version under which signature, and back come counts and digests.
Rows go from the data's remote to a worker and from there, as a hidden file beside the day's place, to the predictions.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from airgate import settings
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.provenance import Provenance
from airgate.errors import ArtifactError, ConfigError, StepError
from airgate.steps.data_repository import DataFile, open_snapshot
from airgate.steps.features import features_of
from airgate.steps.manifest import digest_of
from airgate.steps.prediction_files import PredictionFiles
from airgate.steps.scoring import SCHEMA, Scorer, refuse_broken, refuse_twice, suspects
from airgate.steps.value_count import ValueCount
from airgate.steps.versions import fetch_version


@dataclass(frozen=True)
class Job:
    """What every worker must know of a run. `claim` is what the files say of their origin, on some day; `root` the folder of
    the model's predictions, and `mark` that of the task try, see `prediction_files`.
    """

    spec: ModelSpec
    claim: Provenance
    envelope: Any
    tracking_uri: str
    repository: str
    commit: str
    scored_at: datetime
    root: str
    mark: str


@dataclass(frozen=True)
class Piece:
    """One file's predictions, at a hidden name beside the day's place."""

    name: str
    rows: int
    digest: str
    counts: ValueCount


@contextmanager
def connected(workers: int, scratch: Path) -> Iterator[Any]:
    """A client of the cluster that AIRGATE_DASK_SCHEDULER names, else of one of our own: so many processes on this machine.

    Raises ConfigError when the address is not encrypted, StepError when the cluster cannot be reached.
    """
    from distributed import Client, LocalCluster, Security

    address = settings.load().dask_scheduler
    if not address:
        # Encrypted though it stays on this machine: whoever may talk to a scheduler can run code as this step.
        with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1",
                          security=Security.temporary(), local_directory=str(scratch)) as cluster, Client(cluster) as client:
            yield client
        return
    if not address.startswith("tls://"):
        raise ConfigError(f"AIRGATE_DASK_SCHEDULER is '{address}'; allowed: an address that begins with tls://, because whoever "
                          "may talk to a scheduler can run code on its workers. Set Dask's own certificates, "
                          "DASK_DISTRIBUTED__COMM__TLS__CA_FILE and those beside it.")
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise StepError(f"the Dask scheduler {address} (AIRGATE_DASK_SCHEDULER) cannot be reached: {error}") from None
    with client:
        yield client


def score_day(client: Any, job: Job, files: list[DataFile], day: date, to: Path) -> int:
    """Score a day's files on the workers of a Dask `client`, into the Parquet file `to`, whose metadata are the job's.

    Rows, order and checks are those of `Scorer.score`. Raises what that raises, and StepError when workers die with it again
    and again.
    """
    from distributed.scheduler import KilledWorker

    place, data = PredictionFiles(job.root), job.spec.data
    names = [f"date={day}/.{job.mark}.{number}.parquet" for number in range(len(files))]
    try:
        pieces: list[Piece] = client.gather([client.submit(score_file, job, file, day, name, pure=False)
                                             for file, name in zip(files, names, strict=True)])
        counts, rows = ValueCount(data), sum(piece.rows for piece in pieces)
        for piece in pieces:
            counts.merge(piece.counts)
        refuse_broken(data, counts, rows, day)
        if (repeated := counts.repeated()).size:
            found = client.gather([client.submit(suspects_in, job, file, repeated, pure=False) for file in files])
            refuse_twice(data, [one for ids in found for one in ids], day)
        _join(place, pieces, to, job.claim.model_copy(update={"day": day}).metadata())
    except KilledWorker as error:
        raise StepError(f"{data.dataset} of {day}: Dask workers died with it again and again, most likely for want of memory: "
                        f"{error}. Give `predict` more memory in model.yaml, or fewer workers.") from None
    finally:
        place.discard(names)
    return rows


def score_file(job: Job, file: DataFile, day: date, name: str) -> Piece:
    """On a worker: fetch one file at the job's commit, score it, and lay the result under the hidden `name`."""
    scorer, counts = _scorer(job), ValueCount(job.spec.data)
    with tempfile.TemporaryDirectory(prefix="airgate-score-") as folder:
        source, result = _fetch(job, file, Path(folder)), Path(folder) / "scored.parquet"
        rows = scorer.write([(source, file.path.strip("/"))], day, result, counts)
        PredictionFiles(job.root).put(result, name)
        return Piece(name, rows, digest_of(result), counts)


def suspects_in(job: Job, file: DataFile, hashes: npt.NDArray[np.uint64]) -> list[str]:
    """On a worker: the ids of a file whose hashes are among those that are there more than once."""
    with tempfile.TemporaryDirectory(prefix="airgate-score-") as folder:
        return suspects(job.spec.data, [(_fetch(job, file, Path(folder)), file.path.strip("/"))], hashes)


def _fetch(job: Job, file: DataFile, to: Path) -> Path:
    with open_snapshot(job.repository, job.commit) as snapshot:
        return snapshot.fetch([file], to)[0]


# The one model that this worker has verified and read.
_held: dict[Any, Scorer] = {}


def _scorer(job: Job) -> Scorer:
    """The job's scorer; its version is fetched and its signature verified once a worker, by the worker's own trusted keys."""
    name, version, digest = job.spec.name, job.claim.version, job.claim.model_digest
    key = (job.mark, version, digest)
    if key not in _held:
        folder = Path(tempfile.mkdtemp(prefix="airgate-model-", dir=_scratch()))
        try:
            model = fetch_version(job.tracking_uri, name, version, folder / "model", digest, envelope=job.envelope,
                                  stage=PRODUCTION)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _held.clear()
        _held[key] = Scorer(job.spec, model, features_of(name), version, job.scored_at)
    return _held[key]


def _scratch() -> str | None:
    """The worker's own folder, which goes when it ends: some kinds of model read their files only when they are used."""
    from distributed import get_worker

    try:
        return str(get_worker().local_directory)
    except ValueError:  # not on a worker
        return None


def _join(place: PredictionFiles, pieces: list[Piece], to: Path, metadata: dict[str, str]) -> None:
    """Put the pieces behind each other into one file, a row group at a time."""
    local = to.with_suffix(".piece")
    with pq.ParquetWriter(to, SCHEMA.with_metadata(metadata), compression="zstd") as writer:
        for piece in pieces:
            place.get(piece.name, local)
            if digest_of(local) != piece.digest:
                raise ArtifactError(f"{piece.name}: is not what a worker wrote there. Nothing was published; run the task again.")
            with pq.ParquetFile(local) as file:
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group))
            local.unlink()
