"""The data that the demo flies on: scikit-learn's breast cancer data (Wisconsin Diagnostic) as a DVC data repository.

`python -m airgate.steps.demo_data REPO_DIR` writes twelve daily partitions, puts them under DVC with a local remote,
and commits. A second run changes nothing.

What is real and what is staged: every row is a row of the data set, unchanged, and appears exactly once. The dates are
ours. So is the order: the first nine days are a random mix, and from 2026-01-10 on most rows come from the third of
the cases with the largest mean cell area, as if a referral clinic had begun to send its patients. A drift check of
2026-01-09 against the days before finds nothing; one of 2026-01-10 finds most columns changed.
"""

import argparse
import os
import subprocess
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from airgate.errors import ConfigError

DATASET = "breast_cancer"
FIRST_DAY = date(2026, 1, 1)
ORDINARY_DAYS, SHIFTED_DAYS = 9, 3
SHIFT_DAY = FIRST_DAY + timedelta(days=ORDINARY_DAYS)

# Rows a day after the shift, and the share of them that are large-cell cases. With the seed they were chosen so that
# the shift is plain and an ordinary day is far from it: 0.8 of the columns differ, against 0.0 (see the tests).
_ROWS_AFTER, _LARGE_SHARE, _SEED = 46, 0.85, 35

_CONFIG = '[core]\n    analytics = false\n    remote = storage\n[\'remote "storage"\']\n    url = {url}\n'
_IDENTITY = {"user.name": "Airgate demo data", "user.email": "demo-data@airgate.invalid", "commit.gpgsign": "false"}
_README = """# Demo data for Airgate

The rows are the Breast Cancer Wisconsin (Diagnostic) data that ship with scikit-learn, unchanged, each exactly once.
The dates are staged, and so is the shift in the case mix from 2026-01-10 on. `malignant` is 1 for a malignant tumour
(scikit-learn's own `target` has it the other way round). Written by `python -m airgate.steps.demo_data`.
"""


def partitions() -> dict[date, pd.DataFrame]:
    """The staged days: a frame a day, with `sample_id` (text), 30 measurements (float64), `malignant` (int64, 0 or 1).

    `sample_id` is P0001 to P0569 in the order of the published data, so it names a sample and not a place in this data.
    """
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer(as_frame=True)
    rows = source.data.rename(columns=lambda name: name.replace(" ", "_"))
    rows.insert(0, "sample_id", [f"P{number:04d}" for number in range(1, len(rows) + 1)])
    rows["malignant"] = (source.target == 0).astype("int64")

    random = np.random.default_rng(_SEED)
    is_large = (rows["mean_area"] >= rows["mean_area"].quantile(2 / 3)).to_numpy()
    large, others = np.flatnonzero(is_large), np.flatnonzero(~is_large)
    random.shuffle(large)
    random.shuffle(others)
    after = _ROWS_AFTER * SHIFTED_DAYS
    sent = round(after * _LARGE_SHARE)
    shifted = np.concatenate([large[:sent], others[: after - sent]])
    ordinary = np.concatenate([large[sent:], others[after - sent :]])
    random.shuffle(shifted)
    random.shuffle(ordinary)
    chunks = [*np.array_split(ordinary, ORDINARY_DAYS), *np.array_split(shifted, SHIFTED_DAYS)]
    return {FIRST_DAY + timedelta(days=n): rows.iloc[chunk].reset_index(drop=True) for n, chunk in enumerate(chunks)}


def write_partitions(folder: Path) -> list[Path]:
    """Write `folder`/date=YYYY-MM-DD/part-0.parquet for every day; give the paths.

    The writer's settings are fixed and nothing of the moment goes in: the same library versions write the same bytes.
    """
    paths = []
    for day, rows in partitions().items():
        path = folder / f"date={day}" / "part-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, path, compression="zstd", compression_level=3, version="2.6", row_group_size=1 << 20)
        paths.append(path)
    return paths


def create(repository: Path, remote: str | Path | None = None) -> str:
    """Make or complete the data repository in the folder `repository`; give the commit at its head.

    `remote` is the DVC remote, a URL or a folder, by default `data-remote` beside the repository. No git identity is needed
    on the machine: the repository has its own. Raises ConfigError when git is missing or the folder holds other things.
    """
    repository = repository.absolute()
    remote = str(remote or repository.parent / "data-remote")
    _refuse_foreign(repository)
    if not (repository / ".git").is_dir():
        repository.mkdir(parents=True, exist_ok=True)
        _git(repository, "init", "--quiet", "--initial-branch=main")
    for key, value in _IDENTITY.items():
        _git(repository, "config", key, value)
    files = {
        ".dvc/config": _CONFIG.format(url=remote if "://" in remote else _relative(remote, repository / ".dvc")),
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".gitignore": f"/{DATASET}\n",
        "README.md": _README,
    }
    for name, text in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    write_partitions(repository / DATASET)
    _add_and_push(repository)
    _git(repository, "add", "--", *files, f"{DATASET}.dvc")
    if _git(repository, "status", "--porcelain", "--untracked-files=no"):
        _git(repository, "commit", "--quiet", "--no-verify", "-m", "Breast cancer data, staged in daily partitions")
    return _git(repository, "rev-parse", "HEAD")


def _relative(path: str, start: Path) -> str:
    """As DVC reads it, so that repository and remote may move together."""
    return Path(os.path.relpath(Path(path).absolute(), start)).as_posix()


def _refuse_foreign(repository: Path) -> None:
    """Never write into a folder that is something else."""
    if repository.exists() and not repository.is_dir():
        raise ConfigError(f"{repository} is a file; name a folder for the data repository")
    if repository.is_dir() and any(repository.iterdir()) and not (repository / ".dvc").is_dir():
        raise ConfigError(f"{repository} is neither empty nor a DVC repository; name a new folder")


def _add_and_push(repository: Path) -> None:
    from dvc.repo import Repo

    (repository / ".dvc" / "tmp").mkdir(exist_ok=True)
    # DVC's index stays inside the repository instead of a folder that the machine's users share.
    own = {"core": {"site_cache_dir": str(repository / ".dvc" / "tmp" / "site"), "autostage": True}}
    with Repo(str(repository), config=own) as repo:
        repo.add([str(repository / DATASET)])
        repo.push([str(repository / f"{DATASET}.dvc")])


def _git(repository: Path, *arguments: str) -> str:
    """Run git in the repository and give what it printed. Hooks and settings of the user's own do not take part."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment = {**inherited, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except FileNotFoundError:
        raise ConfigError("git is not on the PATH; the demo's data repository needs it. Install git.") from None
    if done.returncode != 0:
        raise ConfigError(f"git {arguments[0]} failed in {repository}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `python -m airgate.steps.demo_data`."""
    parser = argparse.ArgumentParser(prog="airgate.steps.demo_data", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", type=Path, help="folder of the data repository, made when missing")
    parser.add_argument("--remote", help="the DVC remote, a URL or a folder (default: data-remote beside it)")
    given = parser.parse_args(arguments)
    commit = create(given.repository, given.remote)
    print(f"{given.repository}: {DATASET} at commit {commit}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
