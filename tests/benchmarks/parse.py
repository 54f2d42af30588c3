"""How long all DAG files take to parse with N models, once Airflow is imported: `python tests/benchmarks/parse.py [N]`."""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "include" / "models" / "diagnosis_classifier"


def register_models(folder: Path, count: int) -> None:
    """Copies of the demo's model under other names."""
    for number in range(count):
        name = f"model_{number:03}"
        target = folder / name
        shutil.copytree(DEMO, target, ignore=shutil.ignore_patterns("__pycache__"))
        spec = target / "model.yaml"
        spec.write_text(spec.read_text().replace("name: diagnosis_classifier", f"name: {name}"))


def main() -> None:
    """Parse every file once and print seconds a file."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        register_models(models, count)
        os.environ.update(AIRGATE_MODELS=str(models), AIRFLOW_HOME=f"{folder}/airflow", AIRFLOW__CORE__LOAD_EXAMPLES="False")
        sys.path.insert(0, str(ROOT / "include"))
        # what the DAG processor has loaded before it forks for a file
        import airflow.models.dag
        import airflow.sdk  # noqa: F401

        run(count)


def run(count: int) -> None:
    """Import each file as the DAG processor does."""
    import importlib.util

    total = 0.0
    for path in sorted((ROOT / "dags").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"parsed_{path.stem}", path)
        assert spec and spec.loader
        begun = time.perf_counter()
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        seconds = time.perf_counter() - begun
        total += seconds
        print(f"{path.name:22} {seconds:6.3f} s")
    print(f"{'all, ' + str(count) + ' models':22} {total:6.3f} s")


if __name__ == "__main__":
    main()
