"""Which data a version was trained on, by the steps that read it and not by the author's, whose code runs between them."""

from airgate import redaction
from airgate.contracts.payloads import Candidate
from airgate.contracts.runs import dag_id
from airgate.contracts.standard_steps import CHECK, DATA_FACTS, LOAD
from airgate.errors import GateError
from airgate.lifecycle import recording


def check_data(candidate: Candidate) -> None:
    """Hold the data that a candidate names against what the standard load and check steps of its training run left in the log.

    Facts flow from step to step, through processes in which a model's author may run any code: a training on other rows could
    name those it would rather be judged by. Raises GateError when the log names other data, or none; AuditError when it cannot
    be read.
    """
    run, told = candidate.training_run, {name: getattr(candidate, name) for name in DATA_FACTS}
    # The newest of each step: one that was cleared and read other rows counts, whoever went on with those of before.
    bodies = {str(item.event.body.get("function")): item.event.body for item in recording.store().events(
        kind="task.succeeded", dag_id=dag_id(candidate.model, "training"), run_id=run) if item.event.source == "operator"}
    for function in (LOAD, CHECK):
        facts = bodies.get(function, {}).get("facts")
        found = {name: facts.get(name) if isinstance(facts, dict) else None for name in DATA_FACTS}
        wrong = next((name for name in DATA_FACTS if found[name] != redaction.masked(told[name])), None)
        if wrong is not None:
            raise GateError(f"{candidate.model} version {candidate.version} says that it was trained on data with {wrong} "
                            f"'{told[wrong]}', and by the audit log {function} of run {run} read "
                            f"{repr(found[wrong]) if found[wrong] else 'none that is on record'}. A step between them changed "
                            "what it was told, or the run was cleared in part: train again.")
