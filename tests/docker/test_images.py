"""What the images' files say: which packages, of which versions, as which user."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ROOT / "include" / "airgate"
# Code that runs in an image, what the image's packages come from, and what is only there when somebody adds it.
AIRFLOW = ([ROOT / "dags", ROOT / "plugins", *sorted({*CODE.iterdir()} - {CODE / "steps", CODE / "platform"})],
           ["requirements.in"], {"pyarrow"})
STEPS = ([ROOT / "include" / "models", *(CODE / name for name in ("steps", "contracts", "signatures", "encryption"))],
         ["docker/steps/requirements.in", "docker/steps/torch.txt"], {"boto3", "botocore"})
DOCKERFILES = [ROOT / "docker" / image / "Dockerfile" for image in ("airflow", "steps")]


def plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def names(path: str) -> set[str]:
    """The distributions that a list of requirements names."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return {plain(re.split(r"[=<>\[ ;]", line)[0]) for line in lines if line and line[0] not in "#-"}


def imports(places: list[Path]) -> Iterator[tuple[str, Path]]:
    """The modules of others that the Python files there import, at their head or in a function."""
    for file in (file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.suffix == ".py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                found = [str(node.module)]
            for module in found:
                if module.partition(".")[0] not in {*sys.stdlib_module_names, "airgate", "models"}:
                    yield module, file.relative_to(ROOT)


@pytest.mark.parametrize(("places", "lists", "added_by_others"), [AIRFLOW, STEPS], ids=["airflow", "steps"])
def test_what_is_imported_is_asked_for_by_name(places: list[Path], lists: list[str], added_by_others: set[str]) -> None:
    """Not had because something else happens to need it today."""
    asked = set().union(*map(names, lists))
    carriers = packages_distributions()
    missing: dict[str, Path] = {}
    for module, file in imports(places):
        top = module.partition(".")[0]
        carried = {plain(one) for one in carriers[top]}
        if module.startswith("airflow.providers."):
            carried = {one for one in carried if plain(f"apache-{module}").startswith(one) and one.count("-") > 2}
        if not carried & asked and top not in added_by_others:
            missing[" or ".join(sorted(carried)) or module] = file
    assert missing == {}


@pytest.mark.parametrize(("lists", "lock"), [(["requirements.in"], "requirements.txt"),
                                             (["docker/steps/requirements.in"], "docker/steps/requirements.txt")])
def test_what_is_asked_for_is_locked(lists: list[str], lock: str) -> None:
    lines = [line for line in (ROOT / lock).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [line for line in lines if "==" not in line] == []
    assert set().union(*map(names, lists)) - names(lock) == set()


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_an_image_is_built_from_its_lock_and_runs_as_nobody_special(file: Path) -> None:
    text = re.sub(r"\\\n", " ", file.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert re.search(r"^ARG BASE=\S+:\d\S+$", text, re.M) and ":latest" not in text
    assert {line.split()[1] for line in lines if line.startswith("FROM")} == {"${BASE}"}
    for install in re.findall(r"pip install ([^&;]*)", text):
        assert "--no-deps" in install and ("-r " in install or "--no-build-isolation" in install), install
    *_, user = (line for line in lines if line.startswith("USER"))
    assert int(re.split("[ :]", user)[1]) >= 10000
