"""The work of one training run as one plain script without Airgate, to compare times with the DAG's steps.

    python tests/benchmarks/plain_script.py DATA_FOLDER [--days 9] [--tracking-uri sqlite:////tmp/plain.db]

DATA_FOLDER holds date=YYYY-MM-DD/*.parquet, such as the demo's data/breast_cancer. Does what load, features, train
(five folds, then all rows), evaluate (1000 bootstrap resamples) and register do, with the same rows, parameters and
libraries, in one process. Prints the seconds of each part, and of all with and without imports.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

STARTED = time.perf_counter()

import hashlib  # noqa: E402
import os  # noqa: E402

os.environ.update(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false", GIT_PYTHON_REFRESH="quiet")

import mlflow  # noqa: E402
import mlflow.pyfunc  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import xgboost as xgb  # noqa: E402
import yaml  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402
from sklearn.metrics import log_loss, roc_auc_score  # noqa: E402
from sklearn.model_selection import StratifiedKFold  # noqa: E402

IMPORTED = time.perf_counter()
SPEC = yaml.safe_load((Path(__file__).parents[2] / "include/models/diagnosis_classifier/model.yaml").read_text())
SERVING = '''
import mlflow, xgboost
class Plain(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.booster = xgboost.Booster(model_file=context.artifacts["model"])
    def predict(self, context, model_input, params=None):
        return self.booster.inplace_predict(model_input.to_numpy(dtype=float), validate_features=False).astype(float)
mlflow.models.set_model(Plain())
'''
seconds: dict[str, float] = {}


@contextmanager
def timed(part):
    begin = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - begin


def load(folder, days):
    files = [file for day in sorted(folder.glob("date=*"))[:days] for file in sorted(day.glob("*.parquet"))]
    data = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    kept = int(SPEC["data"]["holdout_percent"])
    held = [int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "big") % 100 < kept for one in data["sample_id"]]
    return data, np.array(held)


def features(data):
    return data.assign(area_spread=data["worst_area"] / data["mean_area"],
                       concavity_spread=data["worst_concavity"] - data["mean_concavity"])


def train(data):
    columns = [name for name in data.columns if name not in ("sample_id", "malignant")]
    rows = data.sort_values("sample_id")
    x, y = rows[columns].to_numpy(float), rows["malignant"].to_numpy(float)
    options = dict(SPEC["training"]["parameters"])
    rounds = options.pop("n_estimators")
    options |= {"objective": "binary:logistic", "tree_method": "hist", "seed": SPEC["training"]["seed"], "nthread": 1}

    def fit(inside):
        return xgb.train(options, xgb.DMatrix(x[inside], label=y[inside], nthread=1), rounds)

    folds, scores = StratifiedKFold(SPEC["training"]["folds"], shuffle=True, random_state=7), []
    for inside, outside in folds.split(x, y):
        p = fit(inside).inplace_predict(x[outside])
        scores.append((roc_auc_score(y[outside], p), log_loss(y[outside], p)))
    return fit(np.arange(len(y))), columns, np.mean(scores, axis=0)


def evaluate(booster, columns, data, resamples=1000):
    """Accuracy, Brier score and area under the curve with intervals, on counts as Airgate computes them."""
    y, p = data["malignant"].to_numpy(float), booster.inplace_predict(data[columns].to_numpy(float)).astype(float)
    n, random = len(y), np.random.default_rng(7)
    draws = random.integers(0, n, (resamples, n)) + np.arange(resamples)[:, None] * n
    counts = np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n).astype(float)
    order = np.argsort(p)
    starts = np.flatnonzero(np.diff(p[order], prepend=-1.0))
    up = np.add.reduceat((counts * y)[:, order], starts, axis=1)
    down = np.add.reduceat((counts * (1 - y))[:, order], starts, axis=1)
    area = (up * (np.cumsum(down, axis=1) - down / 2)).sum(axis=1) / (up.sum(axis=1) * down.sum(axis=1))
    drawn = {"roc_auc": area, "accuracy": counts @ ((p >= 0.5) == y) / n, "brier": counts @ (p - y) ** 2 / n}
    ends = (("low", 0.025), ("high", 0.975))
    return {"roc_auc": roc_auc_score(y, p)} | {
        f"{name}_{end}": float(np.quantile(values, q)) for name, values in drawn.items() for end, q in ends}


def register(booster, columns, data, metrics, uri):
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment("plain_script")
    example = data[columns].astype(float).quantile([0.25, 0.5, 0.75]).reset_index(drop=True)
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run():
        code, weights = Path(folder, "serving.py"), Path(folder, "model.ubj")
        code.write_text(SERVING)
        booster.save_model(weights)
        mlflow.log_params(SPEC["training"]["parameters"])
        mlflow.log_metrics(metrics)
        mlflow.log_dict({"metrics": metrics}, "evaluation.json")
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=str(code), artifacts={"model": str(weights)}, input_example=example,
            signature=infer_signature(example, booster.inplace_predict(example.to_numpy(float)).astype(float)),
            pip_requirements=["mlflow", "numpy", "xgboost"])
        return mlflow.register_model(logged.model_uri, "plain_script").version


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--days", type=int, default=9)
    parser.add_argument("--tracking-uri", help="a database that exists already; by default a new one, made before the clock")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = given.tracking_uri or f"sqlite:///{folder}/mlflow.db"
        prepared = time.perf_counter()
        if mlflow.MlflowClient(uri).get_experiment_by_name("plain_script") is None:
            mlflow.MlflowClient(uri).create_experiment("plain_script", artifact_location=f"file://{folder}/artifacts")
        begin = time.perf_counter()
        with timed("load"):
            data, held = load(given.data, given.days)
        with timed("features"):
            made = features(data)
        with timed("train"):
            booster, columns, folds = train(made[~held])
        with timed("evaluate"):
            metrics = evaluate(booster, columns, made[held])
        with timed("register"):
            version = register(booster, columns, made, metrics, uri)
        work = time.perf_counter() - begin
    imports = IMPORTED - STARTED
    json.dump({"rows": len(data), "version": version, "cv_roc_auc": round(float(folds[0]), 4),
               "roc_auc": round(metrics["roc_auc"], 4),
               "seconds": {name: round(value, 3) for name, value in seconds.items()}, "work": round(work, 3),
               "imports": round(imports, 3), "work_and_imports": round(work + imports, 3),
               "making_the_database": round(begin - prepared, 3)}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
