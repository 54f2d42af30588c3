"""The one error tree. A message says what was wrong and where, what is allowed, the nearest right value, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class AirgateError(Exception):
    """Base of every error that Airgate raises on purpose."""


class SpecError(AirgateError):
    """A `model.yaml` or a model's folder is wrong."""


class WiringError(AirgateError):
    """A DAG names a step, an argument or an edge that does not fit."""


class ConfigError(AirgateError):
    """The installation is configured wrongly: a missing connection, a URL that cannot be read."""


class ContractError(AirgateError):
    """A StepCall, StepResult or payload does not have the shape that its schema version promises."""


class ArtifactError(AirgateError):
    """An artifact is missing or cannot be read or written."""


class MissingArtifactError(ArtifactError):
    """The store could be asked, and nothing is there."""


class DigestError(ArtifactError):
    """Bytes are not those that their digest names. Trying again gives the same bytes, so it does not help."""


class SignatureError(AirgateError):
    """A signature is missing, does not verify, is by a key that is not trusted, or speaks of other files."""


class StepError(AirgateError):
    """A step failed; trying again may help."""


class FencedError(StepError):
    """Another launch of the task took over: this one may write nothing any more."""


class DataError(StepError):
    """A step refused its data; trying again with the same data cannot help, so the task fails without retries."""


class GateError(AirgateError):
    """A gate did not pass, or its evidence cannot be trusted."""


class PromotionError(AirgateError):
    """A promotion was refused, or its records contradict each other."""


class AuditError(AirgateError):
    """The audit log could not be written, or what is in it does not verify."""


class BundleError(AirgateError):
    """A bundle is refused. `reason` is one word or two for the record: 'tampered', 'truncated', 'replayed', ..."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Give the clause of an error message that names what is allowed and the closest right name.

    >>> nearest("dta", ["data", "seed"])
    "did you mean 'data'? Allowed: data, seed"
    """
    names = sorted(allowed)
    listing = f"Allowed: {', '.join(names) or 'nothing'}"
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'? {listing}" if close else listing
