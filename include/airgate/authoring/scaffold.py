"""`airgate new-model NAME`: a new model is one new folder, and the one made here trains at once on the demo data."""

import argparse
import getpass
import json
import keyword
import re
import shutil
import sys
import tempfile
from pathlib import Path
from string import Template

from airgate import settings
from airgate.authoring.catalog import RESERVED_NAMES, STEPS_FILE
from airgate.contracts.model_spec import NAME, SPEC_FILE, load_spec
from airgate.errors import ConfigError, SpecError

_MEASURES = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points",
             "symmetry", "fractal_dimension")
# Columns of the demo data set `breast_cancer`: mean, standard error and worst value of each measure.
_COLUMNS = (*(f"mean_{measure}" for measure in _MEASURES), *(f"{measure}_error" for measure in _MEASURES),
            *(f"worst_{measure}" for measure in _MEASURES))

_MODEL_YAML = Template("""\
# What the model $name is, who answers for it, and the thresholds it must meet. Every threshold stands here and
# nowhere else. A key that does not exist is an error that names the nearest one. All keys: docs/data-scientist.md.
schema_version: 1
name: $name
title: $title
owner: $owner
purpose: Say here in one sentence which decision this model supports, and for whom.
# minimal, limited or high: how much harm a wrong answer can do.
risk: limited

data:
  # A folder of the data repository, with one sub-folder a day: breast_cancer/date=2026-01-01/*.parquet
  dataset: breast_cancer
  id: sample_id
  label: malignant
  # Training reads this many days, up to the end of the run's window.
  lookback_days: 30
  # These columns are checked before anything is learned. `min`, `max` and `max_null` (a share, 0 to 1) are per column.
  columns:
$columns

training:
  # The same seed, data and parameters give the same model.
  seed: 7
  folds: 5
  # Passed to the algorithm as they are.
  parameters: {n_estimators: 100, max_depth: 3}

# What each step may use, by the name of its function. A step that is not named here takes `default`.
steps:
  default: {cpu: 1, memory: 1Gi}
  train: {cpu: 2, memory: 2Gi}

# Fixed before training: their hash is recorded when it begins. The whole confidence interval must meet a bound.
gates:
  metrics:
    roc_auc: {min: 0.9}
    recall: {min: 0.8}
  production: {metric: roc_auc, max_drop: 0.02}

promotion:
  # Two roles, answered by two different people, neither of whom asked for the promotion. Put your people here.
  approvers:
    ml_engineer: [ana]
    risk_officer: [omar]
  answer_within_hours: 72

# Cron expressions in UTC: `training`, `batch_inference`, `drift_check`. One that is not set runs by hand only.
schedule:
  start: 2026-01-01
  # batch_inference: "0 3 * * *"
""")

_STEPS_PY = Template('''\
"""How the model $name is made.

Each function is a step: plain Python in, plain Python out, run in a process of its own. Write what you like inside;
DAGs are checked against the names and annotations. Data frames, models, paths, and dicts of numbers and text may pass
from one step to another. Further steps are further functions.
"""

import pandas as pd

from airgate.steps.context import StepContext
from airgate.steps.model import Model
from airgate.steps.train_xgboost import fit


def features(data: pd.DataFrame) -> pd.DataFrame:
    """Add what the model learns from; keep the id and, where there is one, the label.

    Training, evaluation and batch scoring all call this, the last on rows without a label. So let each row depend on
    itself alone: a mean over all rows would be another one when scoring.
    """
    return data.assign(radius_spread=data["worst_radius"] - data["mean_radius"])


def train(data: pd.DataFrame, ctx: StepContext) -> Model:
    """Learn from checked rows. `ctx.spec` is model.yaml; ctx.log_metric("name", value) reaches MLflow."""
    return fit(data, ctx)
''')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `airgate new-model` takes."""
    parser.add_argument("name", metavar="NAME", help="lower case letters, digits and _, for example readmission_risk")
    parser.add_argument("--title", help="how people call it; default: made from the name")
    parser.add_argument("--owner", help="who answers for it; default: you")


def run(args: argparse.Namespace) -> int:
    """Make the model and say what to do next. Raises what `create` raises."""
    folder = create(args.name, args.title, args.owner)
    sys.stdout.write(
        f"Made {folder}\n"
        f"  {SPEC_FILE}  what it is: set purpose, data, thresholds and approvers\n"
        f"  {STEPS_FILE}    how it is made: two plain functions\n"
        f"It trains on the demo data as it is: unpause its six DAGs in the UI (new ones are paused; a candidate\n"
        f"that is registered while the validation is paused waits for nobody), then start the DAG {folder.name}_training.\n"
    )
    return 0


def create(name: str, title: str | None = None, owner: str | None = None) -> Path:
    """Make the folder of a new model under the models folder, whole or not at all; give its path.

    Raises SpecError when the name is not allowed or taken, or a text cannot stand in YAML; ConfigError when there is no
    models folder, or it cannot be written.
    """
    _check_name(name)
    models = settings.load().models
    target = models / name
    if target.exists() or target.is_symlink():
        raise SpecError(f"{target} exists already and is never overwritten. Choose another name, or edit it.")
    files = {SPEC_FILE: _model_yaml(name, title, owner), STEPS_FILE: _STEPS_PY.substitute(name=name)}
    try:
        _write(target, files)
    except OSError as error:
        raise ConfigError(f"{target} cannot be made: {error.strerror}. Is {models} a folder that you may write to? "
                          "AIRGATE_MODELS names another.") from None
    return target


def _check_name(name: str) -> None:
    if re.fullmatch(NAME, name) and not keyword.iskeyword(name) and name not in RESERVED_NAMES and name.isascii():
        return
    suggestion = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()[:50]
    if not re.fullmatch(NAME, suggestion) or keyword.iskeyword(suggestion) or suggestion in RESERVED_NAMES:
        suggestion = f"{suggestion}_model" if re.fullmatch(NAME, f"{suggestion}_model") else "my_model"
    raise SpecError(f"'{name}' cannot be the name of a model; did you mean '{suggestion}'? Allowed: 1 to 63 lower case "
                    "letters, digits and _, a letter first; no Python keyword, "
                    f"and not {' or '.join(sorted(RESERVED_NAMES))}.")


def _model_yaml(name: str, title: str | None, owner: str | None) -> str:
    columns = "\n".join(f"    {column}: {{type: float, min: 0}}" for column in _COLUMNS)
    return _MODEL_YAML.substitute(name=name, title=_quoted(title or name.replace("_", " ").capitalize()),
                                  owner=_quoted(owner or _current_user()), columns=columns)


def _quoted(text: str) -> str:
    """Text in double quotes as both JSON and YAML write it, so that ': ' or '#' in a title stays text."""
    return json.dumps(text, ensure_ascii=False)


def _current_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user id has no name
        return "unassigned"


def _write(target: Path, files: dict[str, str]) -> None:
    """Write beside the target under a hidden name, check, and rename: nobody sees a half-made model."""
    hidden = Path(tempfile.mkdtemp(prefix=".new-model-", dir=target.parent))
    try:
        draft = hidden / target.name
        draft.mkdir()
        for name, text in files.items():
            (draft / name).write_text(text, encoding="utf-8")
        try:
            load_spec(draft)
        except SpecError as error:
            # The only texts not ours are title and owner.
            reason = str(error).removeprefix(f"{draft / SPEC_FILE}: ")
            raise SpecError(f"--title or --owner cannot stand in {SPEC_FILE}: {reason}. Use plain text.") from None
        draft.rename(target)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
