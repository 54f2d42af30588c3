"""Putting a trained model into MLflow's registry as a candidate. No alias is set: only a promotion moves a stage."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient

from airgate.contracts.payloads import Candidate
from airgate.contracts.standard_steps import DATA_FACTS
from airgate.contracts.version_tags import DAG, DIGEST, RUN, version_tags
from airgate.encryption.folder import seal_folder
from airgate.encryption.keys import from_settings
from airgate.errors import ArtifactError, ConfigError, ContractError
from airgate.steps import versions
from airgate.steps.context import StepContext
from airgate.steps.model import Model, checked
from airgate.steps.store import manifest, manifest_digest

with warnings.catch_warnings():
    # mlflow warns of a type hint in its own code. It would import this on first use, 1 s: a warm parent pays that once.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
    import mlflow.pyfunc

# Likewise: the first model that MLflow logs makes it read the metadata of every installed package, 1 s. It keeps the result.
getattr(mlflow.utils.requirements_utils, "_init_modules_to_packages_map", lambda: None)()

# What serving needs, by kind of model; the installed versions are pinned. Finding them out by import costs seconds.
REQUIREMENTS = {"xgboost": ["mlflow", "numpy", "pandas", "xgboost"],
                "torch": ["mlflow", "numpy", "pandas", "safetensors", "torch"]}
SERVING_CODE = Path(__file__).with_name("pyfunc_model.py")


def register(model: Model, data: pd.DataFrame, evaluation: dict[str, Any], gates_hash: str,
             ctx: StepContext) -> dict[str, Any]:
    """Log `model` into this run's MLflow run and register it as a version; give the Candidate payload.

    `data` is what features() returned: signature and example are made from it, the example from quartiles, so that no
    person's row is kept. `evaluation` is what `evaluate` returned. `gates_hash` is the thresholds' fingerprint as the
    DAG had it when training began. Data revision and hash come from the facts of the steps before.
    Repeating it for one training run and one digest gives the version that is there.
    Raises ConfigError without MLflow, ContractError when the facts lack the data's revision, ArtifactError when the
    model's bytes are not those that the train step stored.
    """
    uri, run_id = _mlflow(ctx)
    folder = ctx.workdir / "register" / Path(versions.FOLDER).name
    model.save(folder)
    checked(folder)
    digest = manifest_digest(manifest(folder))
    _same_as_stored(digest, ctx)
    tags = _tags(digest, gates_hash, ctx)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = _registered(client, ctx.spec.name, tags)
    if found is None:
        ctx.check_fence()
        source, model_id = _log(model, _at_rest(folder), data, uri, run_id)
        ctx.check_fence()
        found = _create(client, ctx, tags, source=source, model_id=model_id, run_id=run_id,
                        description=_describe(evaluation))
        ctx.progress(f"registered {ctx.spec.name} version {found.version}, {digest[:19]}")
    else:
        ctx.progress(f"{ctx.spec.name} version {found.version} was registered by an earlier try of this run")
    ctx.fact("model_version", str(found.version))
    ctx.fact("model_digest", digest)
    ctx.fact("model_source", str(found.source))
    return Candidate(
        model=ctx.spec.name, version=str(found.version), digest=digest, gates_hash=gates_hash, window=ctx.window,
        data_revision=ctx.call.facts["data_revision"], data_hash=ctx.call.facts["data_hash"],
        mlflow_run_id=found.run_id or run_id, training_run=ctx.run.run_id,
    ).model_dump(mode="json")


def requirements(kind: str) -> list[str]:
    """Pinned packages that serving a model of this kind needs, for pip. A local build tag such as +cpu is left out."""
    return [f"{name}=={installed(name).split('+')[0]}" for name in REQUIREMENTS[kind]]


def _mlflow(ctx: StepContext) -> tuple[str, str]:
    """Tracking URI and the open run's id."""
    uri, run_id = ctx.call.tracking_uri, ctx.run.mlflow_run_id
    if uri is None or run_id is None:
        raise ConfigError("register needs MLflow: this call has no tracking_uri, or no MLflow run was opened for it. "
                          "Set AIRGATE_MLFLOW_URI.")
    return uri, run_id


def _same_as_stored(digest: str, ctx: StepContext) -> None:
    """The bytes that go to MLflow must be those that the train step stored and the log knows."""
    stored = ctx.call.inputs.get("model")
    if stored is not None and stored.digest != digest:
        raise ArtifactError(f"the model's files have digest {digest}, the train step stored {stored.digest}. "
                            "Do the two steps run with the same versions of Airgate and of the model's library?")


def _tags(digest: str, gates_hash: str, ctx: StepContext) -> dict[str, str]:
    facts = ctx.call.facts
    missing = [name for name in DATA_FACTS if not facts.get(name)]
    if missing:
        raise ContractError(f"register does not know the training data's {' and '.join(missing)}: no step before it "
                            "left the fact. Load rows with airgate.steps.load: no other step may leave it.")
    return version_tags(digest=digest, gates_hash=gates_hash, data_revision=facts["data_revision"], data_hash=facts["data_hash"],
                        window=ctx.window, dag_id=ctx.run.dag_id, training_run=ctx.run.run_id)


def _registered(client: MlflowClient, name: str, tags: dict[str, str]) -> ModelVersion | None:
    """The version that an earlier try of this very run registered from the same bytes."""
    same = (DIGEST, DAG, RUN)
    token: str | None = ""
    while token is not None:
        # Our names hold no quote, so they cannot break the filter; run ids may, and are compared here.
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        for found in page:
            if all(found.tags.get(key) == tags[key] for key in same):
                return found
        token = page.token or None
    return None


def _at_rest(folder: Path) -> Path:
    """The folder as MLflow may keep it: encrypted where the installation has keys. Digests are of the plain files."""
    held = from_settings()
    return folder if held is None else seal_folder(folder, folder.parent / "sealed" / folder.name, held)


def _log(model: Model, folder: Path, data: pd.DataFrame, uri: str, run_id: str) -> tuple[str, str]:
    """Store the model with its serving code in MLflow; give the logged model's URI and id."""
    example = data[model.features].astype("float64").quantile([0.25, 0.5, 0.75]).reset_index(drop=True)
    with _active(uri, run_id):
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=str(SERVING_CODE), artifacts={"model": str(folder)}, input_example=example,
            signature=infer_signature(example, model.predict_proba(example)), pip_requirements=requirements(model.kind))
    return str(logged.model_uri), str(logged.model_id)


@contextmanager
def _active(uri: str, run_id: str) -> Iterator[None]:
    """Make the run the one that MLflow's functions write to."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        yield
        return
    # Leaving it ends the run in MLflow; the runner ends it once more, with the step's true outcome.
    with mlflow.start_run(run_id=run_id):
        yield


def _create(client: MlflowClient, ctx: StepContext, tags: dict[str, str], **version: Any) -> ModelVersion:
    name = ctx.spec.name
    try:
        client.create_registered_model(name, tags={"airgate.owner": ctx.spec.owner}, description=ctx.spec.purpose)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(name, tags=tags, await_creation_for=60, **version)


def _describe(evaluation: dict[str, Any]) -> str:
    """One sentence for the registry's page."""
    auc = evaluation["metrics"]["roc_auc"]
    return (f"roc_auc {auc['value']:.4f} ({evaluation['confidence']:.0%} interval {auc['low']:.4f} to "
            f"{auc['high']:.4f}) on {evaluation['rows']} holdout rows.")
