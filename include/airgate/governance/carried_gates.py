"""The gates for a version that came in a bundle: this installation's thresholds, against what was measured at the source."""

from typing import Any

from airgate.contracts.bundle import ImportedFrom
from airgate.contracts.model_spec import GatesSpec
from airgate.contracts.payloads import GateResult
from airgate.governance.gates import digest_verified, measured


def judge(imported: ImportedFrom, evidence: dict[str, Any], gates: GatesSpec, live: str | None) -> list[GateResult]:
    """Apply every gate of this installation to the evidence that a bundle carried. Pure.

    `evidence` is what `airgate.steps.evaluate:compare` gave at the source. `live` is the digest of the model that is in
    production here, None where there is none. Missing evidence fails its gate, as everywhere.
    """
    comparable = _comparable(imported, evidence, live)
    found = [_fixed(imported), digest_verified(evidence, imported.model_digest, "the bundle's are"), _data_checked(imported),
             _confidence(evidence, gates)]
    return [*found, *measured(comparable, gates), _same_production(imported, live)]


def _comparable(imported: ImportedFrom, evidence: dict[str, Any], live: str | None) -> dict[str, Any]:
    """The evidence with its comparison only where that is one with what is in production here."""
    if live is None:
        return {**evidence, "production": None, "difference": None}
    if live == imported.compared_with:
        return evidence
    return {name: value for name, value in evidence.items() if name not in ("production", "difference")}


def _fixed(imported: ImportedFrom) -> GateResult:
    """At the source the thresholds stood before the training began; those of this installation it never knew."""
    then, at_registration = imported.gates_at_training, imported.candidate.gates_hash
    if then is None:
        said = f"the log of {imported.environment} has no record of the thresholds from when training began"
    elif then == at_registration:
        said = f"at {imported.environment} the thresholds are those recorded when training began"
    else:
        said = (f"at {imported.environment} thresholds changed after training began: then {then[:19]}, at registration "
                f"{at_registration[:19]}")
    return GateResult(name="thresholds_fixed", passed=then == at_registration, evidence=said)


def _data_checked(imported: ImportedFrom) -> GateResult:
    digest = imported.data_check
    said = f"data check passed at {imported.environment}, report {digest[:19]}" if digest else \
        f"the log of {imported.environment} has no passed check of the training data"
    return GateResult(name="data_check", passed=digest is not None, evidence=said)


def _confidence(evidence: dict[str, Any], gates: GatesSpec) -> GateResult:
    """An interval of less confidence is narrower, so it would pass bounds that this installation's would not."""
    found = evidence.get("confidence")
    passed = isinstance(found, int | float) and not isinstance(found, bool) and found >= gates.confidence
    return GateResult(name="confidence", passed=passed, evidence=f"intervals are of confidence {found}; here at least "
                                                                 f"{gates.confidence} is asked")


def _same_production(imported: ImportedFrom, live: str | None) -> GateResult:
    if live is None:
        said = "nothing is in production here yet"
    elif live == imported.compared_with:
        said = f"it was measured beside {live[:19]}, which is in production here"
    else:
        said = (f"it was measured beside {(imported.compared_with or 'nothing')[:19]}, and {live[:19]} is in production here. "
                f"Validate it at {imported.environment} beside that version, and export it again")
    return GateResult(name="compared_with_production", passed=live in (None, imported.compared_with), evidence=said)
