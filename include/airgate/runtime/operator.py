"""What the operators of all runtimes share: ask for a step, account for what became of it, and only then succeed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from pydantic import ValidationError

from airgate import errors, settings
from airgate.audit.delivery import NotRecorded
from airgate.audit.event import AuditEvent, Kind
from airgate.contracts import calls
from airgate.contracts.standard_steps import BUNDLE_ARGUMENT, IMPORTING, LIVE_ARGUMENT
from airgate.contracts.step import ArtifactRef, RunContext, StepCall, StepFailure, StepResult
from airgate.errors import AirgateError, ArtifactError, AuditError, ConfigError, DataError, DigestError, StepError, WiringError
from airgate.redaction import secret_in
from airgate.runtime import record
from airgate.runtime.bundle import check_bundle
from airgate.runtime.live import check_live
from airgate.runtime.plan import StepPlan
from airgate.runtime.upstream import STEP_RESULT, explain, mapped_outputs, upstream_result
from airgate.runtime.window import window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

EX_DATAERR = 65
MESSAGE_LIMIT = 4000
NO_RESULT = StepFailure(error="NoResult", message="the step left no result", retryable=True)
# A store or a process may come back; the same configuration or the same wiring fails again.
WORTH_ANOTHER_TRY = (StepError, ArtifactError)


class StepFailed(AirflowException):
    """A step failed and its failure is on record; Airflow tries again if tries are left."""


class StepRefused(AirflowFailException):
    """A step failed in a way that fails again, and that is on record; Airflow gives up at once."""


class StepTask:
    """Mixin for an operator that carries out a StepPlan.

    A runtime's operator calls `hold` when it is made and, when it runs, `begin` (or `ask`, and writes the call itself), its own
    launching, and `settle`, all inside `accounted`. Its XCom `return_value` is a StepResult as JSON.
    """

    template_fields: Sequence[str] = ("function", "inputs", "json_inputs", "parameters")

    runtime: str = ""
    plan: StepPlan
    function: str
    inputs: dict[str, str]
    json_inputs: dict[str, Any]
    parameters: dict[str, Any]
    log: Any
    stopped: bool = False
    ran_image: str | None = None  # the image with its digest, once the runtime knows which one it was

    def hold(self, plan: StepPlan, item: Any = None) -> None:
        """Take the plan. What Airflow resolves at run time becomes an attribute, since it renders attributes only.

        `item` is Airflow's of a mapped task: it names the task in the UI. The step takes its own from the recorded list.
        """
        self.plan, self.item = plan, item
        self.function = plan.function
        self.inputs = dict(plan.inputs)
        self.json_inputs = dict(plan.json_inputs)
        self.parameters = dict(plan.parameters)

    def _do_render_template_fields(self, parent: Any, template_fields: Any, context: Context, jinja_env: Any,
                                   seen_oids: set[int]) -> None:
        """Render as Airflow does, once Airflow knows the secrets in the run's conf: rendered fields are kept and shown.

        A mapped task is rendered by this method alone, every other by way of it.
        """
        record.mask_conf(context)
        super()._do_render_template_fields(  # type: ignore[misc]  # of the operator beside this mixin
            parent, template_fields, context, jinja_env, seen_oids)

    def step_image(self) -> str:
        """Name the image that the step runs in."""
        raise NotImplementedError

    def begin(self, context: Context) -> str:
        """Put the start on record and write the call; give the call's URL. Raises as `ask` does, and ArtifactError."""
        return calls.write_call(self.ask(context))

    def ask(self, context: Context) -> StepCall:
        """Make the call and put the start on record.

        Raises WiringError when an upstream step gave no output or an argument is no JSON value, ConfigError when the
        run's parameters or the settings are wrong, AuditError when the log cannot be read or written: what was begun waits
        in the spool then, and the step is not asked.
        """
        call = self.build_call(context)
        body = record.started_body(self.plan, call, self.runtime)
        # Airflow may start one try twice after a crash of its own; that contradicts nothing.
        record.delivery().append_if_absent(self._event(context, "task.started", body))
        return call

    def build_call(self, context: Context) -> StepCall:
        """Resolve the plan against this run. Raises WiringError, ConfigError or AuditError."""
        now = settings.load()
        upstream = {name: upstream_result(context["ti"], task_id) for name, task_id in self.plan.inputs.items()}
        facts: dict[str, str] = {}
        for result in upstream.values():
            facts = {**result.facts, **facts}
        if LIVE_ARGUMENT in self.json_inputs and self.plan.spec is not None:
            check_live(self.json_inputs[LIVE_ARGUMENT], self.plan.spec.name, context["ti"])
        parameters = {**self.parameters, **self.json_inputs}
        if self.plan.function.startswith(IMPORTING) and self.plan.spec is not None:
            check_bundle(parameters.get(BUNDLE_ARGUMENT), self.plan.spec.name)
        _refuse_secrets(self.plan, parameters)
        try:
            return StepCall(
                function=self.plan.function,
                inputs={name: _output(result, name, self.plan.inputs[name]) for name, result in upstream.items()},
                gathered={name: mapped_outputs(context["ti"], task_id) for name, task_id in self.plan.gathers.items()},
                each=self.plan.each,
                parameters=parameters,
                run=self._run_context(context, upstream),
                spec=self.plan.spec,
                facts=facts,
                store=now.artifact_store,
                tracking_uri=without_password("AIRGATE_MLFLOW_URI", now.mlflow_uri),
                data_repository=without_password("AIRGATE_DATA_REPOSITORY", now.data_repository),
            )
        except ValidationError as error:
            raise WiringError(f"{self.plan.function}: {explain(error)}") from None

    def _run_context(self, context: Context, upstream: dict[str, StepResult]) -> RunContext:
        ti: Any = context["ti"]
        run: Any = context["dag_run"]
        return RunContext(
            dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, try_number=max(1, ti.try_number),
            map_index=-1 if ti.map_index is None else ti.map_index,
            window=window_of(run, context["params"]),
            actor=record.actor_text(record.actor_of(run)),
            code_version=record.code_of(ti).commit,
            image=self.step_image(),
            mlflow_run_id=next((r.mlflow_run_id for r in upstream.values() if r.mlflow_run_id), None),
        )

    def settle(self, context: Context, call_url: str, receipt: str | None, failure: StepFailure | None, ended: str) -> Any:
        """Account for a step that ended; `ended` is how, as the runtime saw it: 'exit code 0', 'signal 9'.

        `receipt` is the SHA-256 of its result that the runner gave to the runtime; without it there is no result. `failure` is
        what the runtime makes of the end; the step's own account of its failure is better and goes first.
        Gives what becomes the XCom, the StepResult as JSON, once its success is on record. Raises StepFailed or StepRefused
        otherwise: a success that cannot be recorded is none, and what goes on record, now or later, is a failure.
        """
        call, result = calls.read_call(call_url), calls.read_result(call_url, receipt)
        if failure is None and result is None:
            failure = StepFailure(
                error="NoResult", retryable=True,
                message=f"the step ended well but left no result beside {call_url}, or no receipt for it: nothing it made can be "
                        "trusted")
        if result is not None and result.failure is not None:
            failure = result.failure
        if failure is not None or result is None:
            raise self.refusal(context, failure or NO_RESULT, ended, call)
        extra, given = self._event_extra(result), self._given(context, result)
        event = self._event(context, "task.succeeded", record.succeeded_body(self.plan, call, result, self.runtime),
                            version=record.version_of(result))
        try:
            record.patient_store().append(event)
        except AuditError as error:
            raise self.refusal(context, _unrecorded(result, error), ended, call, patience=0.0) from error
        if self.plan.emits is not None:
            if extra.get("event_id") == "":
                extra["event_id"] = str(event.event_id)
            context["outlet_events"][self.plan.emits].extra = extra
        return given

    def _given(self, context: Context, result: StepResult) -> Any:
        """What becomes the task's XCom: the StepResult, or the list itself where other tasks are mapped over it."""
        whole = result.model_dump(mode="json")
        if next(iter(self.iter_mapped_dependants()), None) is None:  # type: ignore[attr-defined]  # of the operator
            return whole
        if not isinstance(result.value, list):
            what = "over 32 KiB" if result.value is None else type(result.value).__name__
            raise WiringError(f"{self.plan.function} is to be mapped over, but its value is {what}. Return a list of at most "
                              "32 KiB, an item for each task.")
        context["ti"].xcom_push(key=STEP_RESULT, value=whole)
        return result.value

    def _event_extra(self, result: StepResult) -> dict[str, Any]:
        """The asset event's payload; checked before success is recorded, because after that nothing may fail."""
        if self.plan.emits is None:
            return {}
        if not isinstance(result.value, dict):
            raise WiringError(
                f"{self.plan.function} emits asset '{self.plan.emits.name}' but its value is "
                f"{type(result.value).__name__}. The payload of an asset event is a dict of at most 32 KiB; return "
                "one, or emit from a later step.")
        return dict(result.value)

    def refusal(self, context: Context, failure: StepFailure, ended: str = "", call: StepCall | None = None,
                patience: float | None = None) -> AirflowException:
        """Put a failure on record or into the spool, and give the exception that tells Airflow: StepRefused if no retry helps.

        `patience` (seconds) is 0 where the time is up or the log was waited for already, AIRGATE_AUDIT_PATIENCE unless given.
        """
        ti: Any = context["ti"]
        # Of a task that was stopped from outside, Airflow's state is decided there, not by this exception.
        again = failure.retryable and not self.stopped and ti.try_number <= ti.max_tries
        if self.stopped:
            ended, patience = f"stopped from outside; {ended}", 0.0
        message = str(record.masked(failure.message))[:MESSAGE_LIMIT]
        if failure.traceback and not hasattr(errors, failure.error):  # Python's own errors say little without their name
            message = f"{failure.error}: {message}"
        body = record.failed_body(self.plan, failure, ended, call, self.runtime)
        try:
            kind: Kind = "task.retrying" if again else "task.failed"
            # If absent: the sweep may have given this try up already.
            record.delivery(patience).append_if_absent(self._event(context, kind, body))
        except NotRecorded as error:
            message = f"{message}\nThis failure is not in the audit log yet: {error}"
        except AirgateError as error:
            message = f"{message}\nThis failure is not in the audit log: {error}"
        return StepFailed(message) if failure.retryable else StepRefused(message)

    @contextmanager
    def accounted(self, context: Context) -> Iterator[None]:
        """Put on record whatever goes wrong around a step, not only inside it."""
        try:
            yield
        except (StepFailed, StepRefused):
            raise
        except AuditError as error:
            failure = StepFailure(error="AuditError", retryable=True, message=(
                f"the audit log could not be written or read, and no step succeeds without its record: {error}. Check "
                "AIRGATE_AUDIT_URL and the database behind it."))
            raise self.refusal(context, failure, patience=0.0) from error
        except AirflowTaskTimeout:
            limit = getattr(self, "execution_timeout", None)
            failure = StepFailure(error="Timeout", message=f"not done after {limit}", retryable=True)
            self.refusal(context, failure, patience=0.0)
            raise
        except AirgateError as error:
            again = isinstance(error, WORTH_ANOTHER_TRY) and not isinstance(error, DataError | DigestError)
            raise self.refusal(
                context, StepFailure(error=type(error).__name__, message=str(error), retryable=again)) from None
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise self.refusal(
                context, StepFailure(error=type(error).__name__, message=text, retryable=True)) from error

    def _event(self, context: Context, kind: Kind, body: dict[str, Any], version: str | None = None) -> AuditEvent:
        ti: Any = context["ti"]
        return record.task_event(
            ti, kind, "operator", record.actor_of(context["dag_run"]), body, version=version,
            code=record.code_of(ti, self.ran_image or self.step_image()),
            model=self.plan.spec.name if self.plan.spec else None)


def _unrecorded(result: StepResult, error: AuditError) -> StepFailure:
    made = f"its output is {result.output.uri} ({result.output.digest})" if result.output else "it gave no output"
    return StepFailure(error="AuditError", retryable=True, message=(
        f"the step did its work - {made} - but its success could not be put on record, and no step succeeds without its "
        f"record: {error}. What it made stays where it is and counts for nothing; the next try does the work again. Check "
        "AIRGATE_AUDIT_URL and the database behind it."))


def outlets_of(plan: StepPlan, kwargs: dict[str, Any]) -> list[Any]:
    """Take the outlets out of an operator's arguments and add the asset that the plan emits."""
    own = [plan.emits] if plan.emits is not None else []
    return [*(kwargs.pop("outlets", None) or []), *own]


def _refuse_secrets(plan: StepPlan, parameters: dict[str, Any]) -> None:
    """A call is written down, so nothing in it may be secret: by its look, or because Airflow knows it to be."""
    given = parameters if plan.spec is None else {**parameters, "training.parameters": dict(plan.spec.training.parameters)}
    place = secret_in(given) or next((name for name, value in given.items() if record.known_secret(value)), None)
    if place:
        raise WiringError(
            f"{plan.function}: '{place}' looks like a secret, and what a step is asked is written down: in the artifact store, "
            "in MLflow, in the audit log. Let the step read it from its environment (AIRGATE_STEPS_SECRET on Kubernetes) or "
            "from a file that an argument such as 'password_file' names; if it is no secret, rename it.")


def without_password(setting: str, url: str) -> str:
    """Give a URL that may be written into a call, where steps and whoever reads the store see it.

    Raises ConfigError when it has a password in it.
    """
    if urlsplit(url).password:
        raise ConfigError(f"{setting} has a password in it, which would be written into the store with each call. Leave it out: "
                          "steps take MLflow's from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and git's "
                          "from a credential helper (AIRGATE_STEPS_SECRET on Kubernetes). A database is reached "
                          "through an MLflow server.")
    return url


def _output(result: StepResult, argument: str, task_id: str) -> ArtifactRef:
    if result.output is None:
        raise WiringError(f"argument '{argument}' takes the output of '{task_id}', but that step gave no value. Let it "
                          "return one, or drop the argument.")
    return result.output
