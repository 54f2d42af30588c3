"""One of the processes that airgate.steps.launch starts: `torchrun -m airgate.steps.launch_worker FOLDER`."""

import os
import sys
from pathlib import Path

import pandas as pd
import torch
from torch.distributed.elastic.multiprocessing.errors import record

from airgate.steps.context import StepContext
from airgate.steps.functions import load_function
from airgate.steps.launch import DATA, JOB, MODEL, OUTCOME, Job, Outcome


class QuietContext(StepContext):
    """A context of a process whose account nobody reads."""

    def progress(self, message: str) -> None:
        """Say nothing: the first process says it."""


@record  # type: ignore[untyped-decorator]
def main() -> None:
    """Train as the job says. The first process leaves the model and its account; a failure is left by torch's `record`."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    job = Job.model_validate_json((folder / JOB).read_text(encoding="utf-8"))
    torch.set_num_threads(job.threads)
    if job.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    workdir = folder / f"rank-{rank}"
    workdir.mkdir()
    ctx = (QuietContext if rank else StepContext)(job.call, workdir, job.mlflow_run_id)
    torch.distributed.init_process_group("nccl" if job.device == "cuda" else "gloo")
    try:
        model = load_function(job.train)(pd.read_parquet(folder / DATA), ctx)
    finally:
        torch.distributed.destroy_process_group()
    if rank == 0:
        model.save(folder / MODEL)
        outcome = Outcome(metrics=ctx.metrics, facts=ctx.facts, attachments={n: str(p) for n, p in ctx.attachments.items()})
        (folder / OUTCOME).write_text(outcome.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
