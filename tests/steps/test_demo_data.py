import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.datasets import load_breast_cancer
from tests.steps.data_support import QUIET, copy_of_demo, demo_repository, rows

from airgate.errors import ConfigError
from airgate.steps import demo_data
from airgate.steps.data_repository import open_snapshot
from airgate.steps.holdout import is_holdout

pytestmark = QUIET


def test_every_real_row_is_there_once_and_unchanged():
    everything = rows(1, 12).sort_values("sample_id", ignore_index=True)
    source = load_breast_cancer()
    assert everything["sample_id"].tolist() == [f"P{n:04d}" for n in range(1, 570)]
    assert (everything.iloc[:, 1:31].to_numpy() == source.data).all()
    assert (everything["malignant"] == 1 - source.target).all()
    assert list(everything)[1:31] == [name.replace(" ", "_") for name in source.feature_names]


def test_twelve_days_with_both_classes_each():
    days = demo_data.partitions()
    assert [str(day) for day in days] == [f"2026-01-{n:02d}" for n in range(1, 13)]
    for frame in days.values():
        assert len(frame) >= 40
        assert frame["malignant"].nunique() == 2


@pytest.mark.parametrize("training_only", [True, False])
def test_the_shift_is_plain_and_the_ninth_day_is_ordinary(training_only):
    reference = rows(1, 8)
    if training_only:
        reference = reference[~is_holdout(reference["sample_id"], 25)]
    columns = list(reference)[1:31]

    def share(day):
        current = rows(day)
        return np.mean([ks_2samp(reference[one], current[one]).pvalue < 0.05 for one in columns])

    assert share(9) <= 0.1
    assert min(share(day) for day in (10, 11, 12)) >= 0.7


def test_two_runs_write_the_same_bytes(tmp_path):
    first, second = (demo_data.write_partitions(tmp_path / name) for name in "ab")
    assert [one.read_bytes() for one in first] == [two.read_bytes() for two in second]
    assert pd.read_parquet(first[0]).dtypes.map(str).unique().tolist() == ["str", "float64", "int64"]


def test_a_second_run_makes_no_commit_and_the_hash_is_the_same_elsewhere(tmp_path):
    repository = copy_of_demo(tmp_path)
    before = demo_data._git(repository, "rev-parse", "HEAD")
    assert demo_data.create(repository) == before
    assert demo_data._git(repository, "status", "--porcelain") == ""
    demo_data.create(tmp_path / "other", tmp_path / "other-remote")
    assert (tmp_path / "other" / "breast_cancer.dvc").read_text() == (repository / "breast_cancer.dvc").read_text()


def test_a_lost_partition_and_a_lost_remote_are_made_good(tmp_path):
    repository = copy_of_demo(tmp_path)
    shutil.rmtree(tmp_path / "data-remote")
    (repository / "breast_cancer" / "date=2026-01-03" / "part-0.parquet").unlink()
    demo_data.create(repository)
    with open_snapshot(str(repository)) as snapshot:
        dataset = snapshot.dataset("breast_cancer")
        assert len(snapshot.fetch([one for files in dataset.partitions.values() for one in files], tmp_path / "out")) == 12


def test_the_command_needs_no_git_identity_and_leaves_nothing_outside(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(Path(demo_data.__file__).parents[2]),
                   "GIT_AUTHOR_NAME": "", "TMPDIR": str(home)}
    done = subprocess.run([sys.executable, "-m", "airgate.steps.demo_data", str(tmp_path / "data")], env=environment,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "breast_cancer at commit" in done.stdout
    author = demo_data._git(tmp_path / "data", "log", "--format=%an <%ae>")
    assert author == "Airgate demo data <demo-data@airgate.invalid>"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "data-remote", "home"]


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="neither empty nor a DVC repository; name a new folder"):
        demo_data.create(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        demo_data.create(tmp_path / "thesis.txt")


def test_the_repository_says_what_is_staged():
    text = (demo_repository() / "README.md").read_text()
    assert "The dates are staged" in text
    assert "2026-01-10" in text
