"""Why a step failed, as its result says it: readable, worth another try or not, and without secrets."""

import traceback
from pathlib import Path

from airgate.contracts.step import StepFailure
from airgate.errors import (
    ConfigError,
    ContractError,
    DataError,
    DigestError,
    GateError,
    SignatureError,
    SpecError,
    WiringError,
)
from airgate.redaction import redact

# The same call meets the same data, the same bytes, the same code and the same settings again.
NOT_RETRYABLE = (DataError, ContractError, DigestError, SpecError, WiringError, ConfigError, GateError,
                 SignatureError)
MESSAGE_LIMIT = 16_000
FRAMES = 12


def failure_of(error: BaseException) -> StepFailure:
    """Describe an exception. The traceback has the last frames' places and lines of code, never the values of variables."""
    message = str(error).strip() or "no message was given"
    return StepFailure(
        error=type(error).__name__,
        message=redact(message)[:MESSAGE_LIMIT],
        retryable=not isinstance(error, NOT_RETRYABLE),
        traceback=redact(_places(error)),
    )


def _places(error: BaseException) -> str:
    """The frames from the step's own code on; the runner's say nothing to its author."""
    here = str(Path(__file__).parent / "runner.py")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != here] or list(frames)
    cause = error.__cause__
    behind = f"\nbecause of {type(cause).__name__}: {cause}" if cause is not None else ""
    return "".join(traceback.format_list(own[-FRAMES:])) + "".join(traceback.format_exception_only(error)) + behind
