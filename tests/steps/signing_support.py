"""Signed versions for the tests of the steps: the key of 'development', and statements about a version's files."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airgate.signatures import keys, statement
from airgate.steps.manifest import manifest

SIGNER = keys.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(32)), "development")
STRANGER = keys.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "development")

STAGING = keys.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))), "staging")


def promotion_of(live: dict[str, Any], files: dict[str, str], signer: keys.Signer = SIGNER, **changes: Any) -> dict[str, Any]:
    """The envelope of a promotion to production."""
    about = statement.Promotion(**{"model": live["model"], "version": live["version"], "stage": "production", "request": "{}",
                                   "model_digest": statement.manifest_digest(files), "approvals": ["{}", "{}"],
                                   "environment": signer.public.name, **changes})
    return statement.sign(statement.Statement(files=files, predicate=about), signer).to_json()


def registration_of(candidate: dict[str, Any], files: dict[str, str], signer: keys.Signer = SIGNER,
                    source: str = "") -> dict[str, Any]:
    """The envelope of a registration. `source` is where MLflow keeps the files, "" where the record does not say."""
    about = statement.Registration(
        model=candidate["model"], version=candidate["version"], model_digest=statement.manifest_digest(files), tags={},
        training_run="t", mlflow_run_id="r", source=source, register_event="e", environment=signer.public.name)
    return statement.sign(statement.Statement(files=files, predicate=about), signer).to_json()


def files_of(model: Any, folder: Path) -> dict[str, str]:
    """The manifest of a model as it is saved."""
    model.save(folder)
    return manifest(folder)
