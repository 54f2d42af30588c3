"""Before anything is scored: which version is in production, and was it put there by a promotion?"""

from typing import Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import PRODUCTION
from airgate.errors import PromotionError
from airgate.registry.versions import Version
from airgate.runtime.live import last_move


class LiveModelOperator(BaseOperator):
    """Gives {"model", "version", "digest", "data_revision", "window"} of the version in production.

    Raises PromotionError when there is none, or when the alias names anything but what the last recorded promotion
    put there: an alias that was moved by hand stops inference.
    """

    airgate_role = "live_model"

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Check the alias against the audit log and give the version."""
        from airgate.registry.versions import Registry

        live = Registry(settings.load().mlflow_uri).live(self.spec.name)
        moved = last_move(self.spec.name)
        version = verified(self.spec.name, live, moved.body if moved else None)
        self.log.info("version %s is in production by promotion %s", version["version"], moved.event_id if moved else "")
        return version


def verified(model: str, live: Version | None, moved: dict[str, Any] | None) -> dict[str, Any]:
    """Hold MLflow's answer against the last recorded stage move. Pure; see LiveModelOperator."""
    if live is None:
        raise PromotionError(f"{model} has no version in {PRODUCTION}: train, validate and promote one first "
                             f"(DAGs {model}_training, {model}_validation, {model}_promotion).")
    if moved is None:
        raise PromotionError(f"MLflow calls version {live.version} of {model} {PRODUCTION}, but the audit log knows of no "
                             "promotion. Promote it; an alias set by hand does not count.")
    expected = (str(moved["to_version"]), str(moved["model_digest"]))
    if (live.version, live.digest) != expected:
        raise PromotionError(f"MLflow calls version {live.version} of {model} {PRODUCTION}, but the last promotion put version "
                             f"{expected[0]} there. Someone moved the alias or changed the version's tags; promote again or "
                             "restore the alias.")
    return {
        "model": model, "version": live.version, "digest": live.digest,
        "data_revision": live.tags.get("airgate.data_revision", ""),
        "window": {"start": live.tags.get("airgate.window_start", ""), "end": live.tags.get("airgate.window_end", "")},
    }
