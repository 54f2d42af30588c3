"""The entry point of every step, in a pod or in a process: `python -m airgate.steps.runner CALL_URL`.

Ends with 0 when the step did well, 1 when it failed and another try may help, 65 (EX_DATAERR) when none can, 143 when it
was told to stop. Whatever happened is in result.json beside the call, written last, and its SHA-256 in the receipt that
AIRGATE_RECEIPT_FILE asks for. A step that was stopped or killed leaves neither, nor does one whose place another launch has
taken, which ends with 1 and writes nothing at all.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from airgate.contracts import receipt
from airgate.contracts.calls import check_fence, read_call, write_result
from airgate.contracts.step import ArtifactRef, StepCall, StepFailure, StepResult
from airgate.errors import AirgateError, FencedError, StepError
from airgate.steps import materialize, tracking
from airgate.steps.annotations import signature_of
from airgate.steps.arguments import arguments_of, refuse_wrong_arguments
from airgate.steps.context import StepContext
from airgate.steps.environment import environment
from airgate.steps.failure import failure_of
from airgate.steps.functions import load_function
from airgate.steps.store import ArtifactStore

OK, RETRY, NO_RETRY, STOPPED, USAGE = 0, 1, 65, 143, 64


class Stopped(BaseException):
    """SIGTERM: end at once, but clean up. No Exception, so that a step's own `except Exception` does not hold it."""


@dataclass
class Account:
    """What becomes the result, filled in as the step goes on."""

    started_at: datetime
    seconds: dict[str, float] = field(default_factory=dict)
    output: ArtifactRef | None = None
    value: Any = None
    attachments: dict[str, ArtifactRef] = field(default_factory=dict)
    failure: StepFailure | None = None

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the block's wall time to a phase and tell the task's log."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + spent, 4)
            say(f"{phase} {spent:.2f} s")

    def fail(self, error: BaseException) -> None:
        """Keep the first failure: later ones follow from it."""
        if self.failure is None:
            self.failure = failure_of(error)
            self.output, self.value = None, None


def main(argv: list[str] | None = None) -> int:
    """Run the call whose URL is the one argument. Gives the exit code; what was wrong is on stderr and in the result."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m airgate.steps.runner CALL_URL\n")
        return USAGE
    previous = signal.signal(signal.SIGTERM, _stop)
    workdir = Path(tempfile.mkdtemp(prefix="airgate-step-"))
    try:
        return _run(arguments[0], workdir)
    except Stopped:
        sys.stderr.write("airgate: told to stop (SIGTERM); no result was written\n")
        return STOPPED
    finally:
        # A second SIGTERM must not break the cleaning.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        shutil.rmtree(workdir, ignore_errors=True)
        signal.signal(signal.SIGTERM, previous)


def execute(call: StepCall, workdir: Path, fence: Callable[[], None] = lambda: None) -> StepResult:
    """Run one call in `workdir`, which must exist and is the step's own. A failure is in the result, never raised.

    Except FencedError, which `fence` raises once another launch of the task took over.
    """
    account = Account(datetime.now(UTC))
    context = StepContext(call, workdir, check_fence=fence)
    store = ArtifactStore(call.store)
    opened: tracking.Tracking | None = None
    try:
        fence()
        with account.timed("log"):
            opened = tracking.open_run(call)
            context.mlflow_run_id = opened.run_id if opened else call.run.mlflow_run_id
        _call(call, context, store, account)
        fence()
    except FencedError:
        raise  # not even MLflow is told: the other launch writes into the same run
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a step raises becomes its result
        account.fail(_as_error(error))
    except Stopped:
        if opened is not None:
            opened.stop()
        raise
    _keep_attachments(context, store, account)
    if opened is not None:
        try:
            with account.timed("log"):
                opened.finish(_entries(call, context, account.failure))
        except Exception as error:  # noqa: BLE001  as above
            account.fail(error)
    return StepResult(
        output=account.output, value=account.value, attachments=account.attachments, metrics=context.metrics,
        facts={**call.facts, **context.facts}, mlflow_run_id=context.mlflow_run_id, environment=environment(),
        started_at=account.started_at, seconds=account.seconds, failure=account.failure)


def say(message: str) -> None:
    """Print a line of the runner's own to the task's log."""
    sys.stdout.write(f"airgate: {message}\n")
    sys.stdout.flush()


def _run(url: str, workdir: Path) -> int:
    try:
        call = read_call(url)
    except AirgateError as error:
        failure = failure_of(error)
        sys.stderr.write(f"airgate: {failure.error}: {failure.message}\n")
        return RETRY if failure.retryable else NO_RETRY
    run = call.run
    say(f"{call.function} for {run.dag_id}, run {run.run_id}, task {run.task_id}, try {run.try_number}")
    try:
        result = execute(call, workdir, partial(check_fence, url))
    except FencedError as error:
        sys.stderr.write(f"airgate: {error}\n")
        return RETRY
    if result.failure is not None:
        again = "another try may help" if result.failure.retryable else "no other try can help"
        sys.stderr.write(f"{result.failure.traceback}\nairgate: {result.failure.error}: {result.failure.message}\n"
                         f"airgate: failed, {again}\n")
    try:
        receipt.leave(write_result(url, result))
    except AirgateError as error:
        sys.stderr.write(f"airgate: {failure_of(error).message}\n")
        return RETRY
    if result.failure is None:
        return OK
    return RETRY if result.failure.retryable else NO_RETRY


def _call(call: StepCall, context: StepContext, store: ArtifactStore, account: Account) -> None:
    with account.timed("import"):
        function = load_function(call.function)
        signature = signature_of(call.function, function)
    refuse_wrong_arguments(call, signature)
    with account.timed("fetch"):
        arguments = arguments_of(call, signature, context)
    with account.timed("call"):
        value = function(**arguments)
    del arguments  # the inputs' memory is wanted for storing the output
    with account.timed("store"):
        account.output, account.value = materialize.save(store, value, signature.returns, context.workdir)


def _keep_attachments(context: StepContext, store: ArtifactStore, account: Account) -> None:
    """Store the reports, also a failed step's: they say why it failed."""
    try:
        for name, path in context.attachments.items():
            account.attachments[name] = store.put_file(path)
    except Exception as error:  # noqa: BLE001  as above
        account.fail(error)


def _entries(call: StepCall, context: StepContext, failure: StepFailure | None) -> tracking.Entries:
    return tracking.Entries(
        parameters=call.parameters, metrics=context.metrics, attachments=context.attachments,
        inputs=call.inputs, facts=context.facts, failure=f"{failure.error}: {failure.message}" if failure else None)


def _as_error(error: BaseException) -> BaseException:
    if isinstance(error, SystemExit):
        raised = StepError(f"the step called sys.exit({error.code!r}). A step ends by returning a value or by raising.")
        return raised.with_traceback(error.__traceback__)
    return error


def _stop(_: int, __: object) -> NoReturn:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
