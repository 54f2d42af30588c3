"""A day of several files on a Dask cluster of its own: real worker processes, the same rows as one process gives."""

import contextlib
import dataclasses
import threading
import time
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from tests.steps.data_support import QUIET, add_partition, context, copy_of_demo, day, rows, spec
from tests.steps.test_publish import NAME, registered  # noqa: F401  a fixture

from airgate.contracts.inference import InferenceSpec
from airgate.contracts.provenance import Provenance, claim_in
from airgate.errors import ConfigError, DataError, SignatureError
from airgate.steps import distributed
from airgate.steps.data_repository import open_snapshot
from airgate.steps.predict import predict
from airgate.steps.value_count import ValueCount

pytestmark = QUIET


@pytest.fixture
def huge(tmp_path):
    """A repository whose day 13 has three files."""
    repository = copy_of_demo(tmp_path)
    for number, first in enumerate((1, 3, 5)):
        add_partition(repository, rows(first, first + 1), name=f"part-{number}.parquet")
    return repository


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def client():
    """A cluster in this process: a real scheduler and two real workers, without the price of starting processes."""
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster, \
            Client(cluster) as client:
        yield client


def test_workers_give_what_one_process_gives(huge, registered, client, tmp_path):  # noqa: F811
    uri, live = registered
    ctx = context(tmp_path, day(13), huge, tracking_uri=uri)
    whole = pd.read_parquet(predict(live, f"file://{tmp_path}/alone", ctx)["files"][0].removeprefix("file://"))
    with open_snapshot(str(huge)) as snapshot:
        files = snapshot.dataset("breast_cancer").partitions[day(13).start]
    assert len(files) == 3
    job = job_of(live, ctx, tmp_path)
    assert distributed.score_day(client, job, files, day(13).start, tmp_path / "day.parquet") == len(whole) == len(rows(1, 6))
    spread = pd.read_parquet(tmp_path / "day.parquet")
    pd.testing.assert_frame_equal(spread.drop(columns="scored_at"), whole.drop(columns="scored_at"))
    assert spread["scored_at"].nunique() == 1
    found = pq.read_metadata(tmp_path / "day.parquet")
    assert found.num_row_groups == 3
    claim = claim_in(found.metadata, "day")
    assert claim and claim.day == day(13).start and claim.version == live["version"]
    assert files_in(tmp_path / "out") == []  # the pieces are gone

    unsigned = dataclasses.replace(job, envelope={}, mark="other")
    with pytest.raises(SignatureError, match="version 1 is not signed, so it is not read"):  # on a worker
        distributed.score_day(client, unsigned, files, day(13).start, tmp_path / "unsigned.parquet")
    assert not (tmp_path / "unsigned.parquet").exists()


def test_an_id_that_another_worker_has_too_is_found(huge, registered, client, tmp_path):  # noqa: F811
    uri, live = registered
    add_partition(huge, rows(2).iloc[:2], name="part-3.parquet")
    with open_snapshot(str(huge)) as snapshot:
        files = snapshot.dataset("breast_cancer").partitions[day(13).start]
    job = job_of(live, context(tmp_path, day(13), huge, tracking_uri=uri), tmp_path)
    with pytest.raises(DataError, match="2026-01-13: 2 ids are there more than once"):
        distributed.score_day(client, job, files, day(13).start, tmp_path / "day.parquet")
    assert files_in(tmp_path / "out") == [] and not (tmp_path / "day.parquet").exists()


@pytest.mark.faults
def test_a_worker_that_is_killed_costs_time_and_no_rows(huge, registered, tmp_path):  # noqa: F811
    """Processes of their own, by way of the step. The killer takes the first worker that it sees at work."""
    uri, live = registered
    ctx = context(tmp_path, day(13), huge, tracking_uri=uri)
    ctx.call = ctx.call.model_copy(update={
        "spec": ctx.spec.model_copy(update={"inference": InferenceSpec(workers=2)})})
    killed = []

    def workers():
        """Dask's own, by the title that they give themselves where they can."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(word.startswith("dask worker") or "spawn_main" in word for word in process.cmdline()):
                    found.append(process)
        return found

    def kill_one():
        while not killed:
            for process in workers():
                with contextlib.suppress(psutil.Error):
                    if process.cpu_times().user > 2:  # it has imported what it needs, and works
                        process.kill()
                        killed.append(process.pid)
                        return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    result = predict(live, f"file://{tmp_path}/out", ctx)
    killer.join(5)
    assert killed and result["rows"] == len(rows(1, 6))
    assert files_in(tmp_path / "out") == [f"{NAME}/date=2026-01-13/predictions.parquet"]
    assert not workers()


def job_of(live, ctx, folder):
    claim = Provenance(model=NAME, version=live["version"], model_digest=live["digest"], day=day(13).start, dag_id="d",
                       run_id="r", task_id="t", try_number=1)
    return distributed.Job(spec=ctx.spec, claim=claim, envelope=live["signature"], tracking_uri=ctx.call.tracking_uri,
                           repository=ctx.call.data_repository, commit="HEAD", scored_at=datetime.now(UTC),
                           root=f"file://{folder}/out", mark="m")


def test_a_day_of_one_file_needs_no_workers(registered, tmp_path, capsys):  # noqa: F811
    uri, live = registered
    ctx = context(tmp_path, day(9), tracking_uri=uri)
    ctx.call = ctx.call.model_copy(update={
        "spec": ctx.spec.model_copy(update={"inference": InferenceSpec(workers=2)})})
    result = predict(live, f"file://{tmp_path}/out", ctx)
    assert result["rows"] == len(rows(9)) and "Dask" not in capsys.readouterr().out


def test_a_scheduler_that_anyone_may_talk_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRGATE_DASK_SCHEDULER", "tcp://dask:8786")
    with pytest.raises(ConfigError, match="allowed: an address that begins with tls://, because whoever may talk"), \
            distributed.connected(2, tmp_path):
        pass


def test_counts_of_several_files_are_those_of_all_rows():
    data = spec().data
    frame = rows(1, 4)
    frame["mean_area"] = np.where(frame.index % 7 == 0, -1.0, frame["mean_area"])
    whole, first, second = ValueCount(data), ValueCount(data), ValueCount(data)
    whole.add(frame)
    first.add(frame.iloc[:50])
    second.add(frame.iloc[50:])
    first.merge(second)
    assert first.findings() == whole.findings() != []
    assert first.repeated().size == 0
    second.merge(first)
    assert second.repeated().size == len(frame) - 50
