import multiprocessing
import os
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from tests.steps.data_support import QUIET, add_partition, context, copy_of_demo, day, demo_repository, rows, spec

from airgate.contracts.step import Window
from airgate.errors import ConfigError, ContractError, DataError
from airgate.steps import data_repository, demo_data, load
from airgate.steps.holdout import is_holdout

pytestmark = QUIET
THIRTEENTH = day(13)


def test_a_day_is_that_days_rows_and_the_record_says_from_where(tmp_path, capsys):
    ctx = context(tmp_path, day(3))
    found = load.load_day(ctx)
    pd.testing.assert_frame_equal(found, rows(3))
    dvc_file = (demo_repository() / "breast_cancer.dvc").read_text()
    assert ctx.facts["data_hash"] in dvc_file
    assert ctx.facts["data_hash"].endswith(".dir")
    assert ctx.facts["data_revision"] == demo_data._git(demo_repository(), "rev-parse", "HEAD")
    assert ctx.facts["rows"] == str(len(found))
    assert ctx.facts["data_days"] == "1 from 2026-01-03 to 2026-01-03"
    assert "rows of breast_cancer" in capsys.readouterr().out
    assert ctx.attachments == {}
    assert not [one for one in ctx.workdir.rglob("*") if one.is_file()]


def test_training_reads_the_days_before_too(tmp_path):
    pd.testing.assert_frame_equal(load.load_window(context(tmp_path, day(8))), rows(1, 8))
    short = context(tmp_path, day(8), spec=spec(lookback_days=3))
    pd.testing.assert_frame_equal(load.load_window(short), rows(6, 8))


def test_a_pinned_revision_gives_that_revisions_rows(tmp_path):
    repository = copy_of_demo(tmp_path)
    old = data_repository.resolve(str(repository))
    changed = rows(3).assign(mean_radius=1.0)
    add_partition(repository, changed, date(2026, 1, 3))
    assert load.load_day(context(tmp_path, day(3), repository))["mean_radius"].eq(1.0).all()
    for pinned in (old, old[:10]):
        pd.testing.assert_frame_equal(load.load_day(context(tmp_path, day(3), repository), pinned), rows(3))


def test_an_annotated_tag_is_its_commit(tmp_path):
    repository = copy_of_demo(tmp_path)
    demo_data._git(repository, "tag", "-a", "-m", "Released", "v1")
    assert data_repository.resolve(str(repository), "v1") == demo_data._git(repository, "rev-parse", "HEAD")


def test_the_reference_is_what_the_version_learned_from(tmp_path):
    ctx = context(tmp_path, day(10))
    live = {"version": "4", "data_revision": data_repository.resolve(str(demo_repository())),
            "window": {"start": "2026-01-08", "end": "2026-01-09"}, "digest": "unused"}
    found = load.load_reference(live, ctx)
    expected = rows(1, 8)
    expected = expected[~is_holdout(expected["sample_id"], 25)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)
    assert set(ctx.facts) == {f"reference_{one}" for one in ("data_revision", "data_hash", "data_days", "rows")}
    with pytest.raises(ContractError, match="does not say its data_revision, window, so what it learned from is unknown"):
        load.load_reference({"version": "4"}, ctx)


def test_labels_may_be_missing_for_a_day_and_other_columns_are_not_read(tmp_path):
    repository = copy_of_demo(tmp_path)
    frame = rows(2).assign(sample_id=[f"Ü-{n}-患者" for n in range(len(rows(2)))], note="private")
    add_partition(repository, frame.drop(columns="malignant"))
    found = load.load_day(context(tmp_path, THIRTEENTH, repository))
    assert list(found) == list(frame)[:31]
    assert found["sample_id"].tolist() == frame["sample_id"].tolist()
    # two days, one of them without labels
    assert "malignant" not in load.load_day(context(tmp_path, day(12, days=2), repository))
    with pytest.raises(DataError, match="do not have the same columns: malignant only in one of them"):
        load.load_window(context(tmp_path, THIRTEENTH, repository))


def test_several_files_a_day(tmp_path):
    repository = copy_of_demo(tmp_path)
    whole = rows(2).assign(sample_id=lambda frame: "X" + frame["sample_id"])
    add_partition(repository, whole.iloc[:10], name="a.parquet")
    add_partition(repository, whole.iloc[10:], name="b.parquet")
    pd.testing.assert_frame_equal(load.load_day(context(tmp_path, THIRTEENTH, repository)), whole)


@pytest.mark.parametrize(("window", "text"), [
    (day(13), "no partition in 2026-01-13; nearest days with data: 2026-01-09, 2026-01-10, 2026-01-11, 2026-01-12 "
              r"\(all: 2026-01-01 to 2026-01-12, 12 days\)"),
    (day(11, days=4), r"no partition for 2026-01-13, 2026-01-14 in 2026-01-11 to 2026-01-15 \(end not included\)"),
    (Window(start=date(2026, 1, 5), end=date(2026, 1, 5)), "no partition in 2026-01-05 to 2026-01-05"),
])
def test_a_day_without_data_names_the_nearest(tmp_path, window, text):
    with pytest.raises(DataError, match=text):
        load.load_day(context(tmp_path, window))


def test_a_training_window_without_data(tmp_path):
    with pytest.raises(DataError, match="no partition in 2025-11-02 to 2025-12-02"):
        load.load_window(context(tmp_path, Window(start=date(2025, 12, 1), end=date(2025, 12, 2))))


def test_wrong_names_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"unknown revision 'mian'; did you mean 'main'\? Allowed: main, or any commit"):
        load.load_day(context(tmp_path, day(1)), "mian")
    with pytest.raises(DataError, match="no data set 'breast_cancr' under DVC; did you mean 'breast_cancer'"):
        load.load_day(context(tmp_path, day(1), spec=spec(dataset="breast_cancr")))
    with pytest.raises(ConfigError, match="no data repository is set: set AIRGATE_DATA_REPOSITORY"):
        load.load_day(context(tmp_path, day(1), data_repository=None))


@pytest.mark.parametrize("name", ["../data", "breast_cancer/..", "/etc", ".dvc", "a\nb", "README.md",
                                  "breast_cancer/date=2026-01-01"])
def test_a_dataset_is_a_name_and_no_path(name):
    with data_repository.open_snapshot(str(demo_repository())) as snapshot, pytest.raises(DataError, match="is no name; allowed"):
        snapshot.dataset(name)


@pytest.mark.parametrize("revision", ["f" * 40, "--upload-pack=x", "main:breast_cancer.dvc", "main~5", "\0", "main\n", "tree"])
def test_strange_revisions_are_unknown(revision):
    if revision == "tree":
        revision = demo_data._git(demo_repository(), "rev-parse", "HEAD^{tree}")
    with pytest.raises(DataError, match="unknown revision"):
        data_repository.resolve(str(demo_repository()), revision)


def test_a_repository_that_cannot_be_cloned_is_named_without_its_password(tmp_path):
    with pytest.raises(ConfigError, match=r"data repository https://\*\*\*@localhost:1/x cannot be cloned") as caught:
        data_repository.resolve("https://ana:s3cret@localhost:1/x")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError, match="Set AIRGATE_DATA_REPOSITORY to a DVC repository's path or git URL"):
        data_repository.resolve(str(tmp_path / "nothing"))


def test_a_cloned_repository_reads_the_same(tmp_path):
    repository = copy_of_demo(tmp_path)
    (repository / ".dvc" / "config").write_text(
        f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {tmp_path / 'data-remote'}\n")
    demo_data._git(repository, "commit", "--quiet", "-am", "A remote that every clone finds")
    subprocess.run(["git", "clone", "--quiet", "--bare", str(repository), str(tmp_path / "bare.git")], check=True)
    pd.testing.assert_frame_equal(load.load_day(context(tmp_path, day(3), tmp_path / "bare.git")), rows(3))
    pd.testing.assert_frame_equal(load.load_day(context(tmp_path, day(3), f"file://{repository}")), rows(3))


def test_a_folder_that_is_no_data_repository(tmp_path):
    (tmp_path / "bare" / ".dvc").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "git")], check=True)
    demo_data._git(tmp_path / "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "Empty")
    for folder in ("bare", "git"):
        with pytest.raises(ConfigError, match="is not a git repository with DVC in it. Run `git init` and `dvc init` there"):
            load.load_day(context(tmp_path, day(3), tmp_path / folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_a_matter_of_configuration(tmp_path):
    repository = copy_of_demo(tmp_path)
    subprocess.run(["chown", "-R", "10001:10001", str(repository)], check=True)
    with pytest.raises(ConfigError, match="cannot be opened: .*owned.* Give the folder to the user that steps run as"):
        load.load_day(context(tmp_path, day(3), repository))


def test_a_user_without_a_name_can_read(tmp_path, monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setenv("HOME", "/nonexistent")
    assert len(load.load_day(context(tmp_path, day(3)))) == len(rows(3))


def test_a_repository_without_a_remote_is_refused(tmp_path):
    repository = copy_of_demo(tmp_path)
    (repository / ".dvc" / "config").write_text("")
    with pytest.raises(ConfigError, match="has no default DVC remote"):
        load.load_day(context(tmp_path, day(3), repository))


def _object(remote: Path, md5: str) -> Path:
    return remote / "files" / "md5" / md5[:2] / md5[2:]


def test_bytes_that_the_commit_does_not_name_are_refused(tmp_path):
    repository = copy_of_demo(tmp_path)
    with data_repository.open_snapshot(str(repository)) as snapshot:
        dataset = snapshot.dataset("breast_cancer")
    stored = _object(tmp_path / "data-remote", dataset.partitions[date(2026, 1, 3)][0].md5)
    other = _object(tmp_path / "data-remote", dataset.partitions[date(2026, 1, 4)][0].md5)
    stored.chmod(0o644)
    stored.write_bytes(other.read_bytes())
    with pytest.raises(DataError, match=r"date=2026-01-03/part-0.parquet is corrupt in the DVC remote: its MD5 is"):
        load.load_day(context(tmp_path, day(3), repository))
    stored.unlink()
    with pytest.raises(DataError, match=r"fetching .*date=2026-01-03.* not in the DVC remote .* Run `dvc push`"):
        load.load_day(context(tmp_path, day(3), repository))


def test_a_forged_listing_is_refused(tmp_path):
    repository = copy_of_demo(tmp_path)
    with data_repository.open_snapshot(str(repository)) as snapshot:
        dataset = snapshot.dataset("breast_cancer")
    listing = _object(tmp_path / "data-remote", dataset.data_hash)
    listing.chmod(0o644)
    days = {day: files[0].md5 for day, files in dataset.partitions.items()}
    listing.write_text(listing.read_text().replace(days[date(2026, 1, 3)], days[date(2026, 1, 4)]))
    with pytest.raises(DataError, match="the listing of 'breast_cancer' in the DVC remote is corrupt"):
        load.load_day(context(tmp_path, day(3), repository))
    listing.unlink()
    with pytest.raises(DataError, match="listing 'breast_cancer': not in the DVC remote"):
        load.load_day(context(tmp_path, day(3), repository))


@pytest.mark.parametrize(("frame", "text"), [
    (rows(2).iloc[:0], r"date=2026-01-13/part-0.parquet has no rows. Write the day's rows, or remove the partition"),
    (b"PAR1 not really PAR1", "part-0.parquet cannot be read as Parquet"),
    (b"", "part-0.parquet cannot be read as Parquet"),
    (rows(2).rename(columns={"sample_id": "sampleid"}), "has no id column 'sample_id'; did you mean 'sampleid'"),
    (rows(2).assign(sample_id="P0001"), r"column 'sample_id': 49 rows share their id with another row, first: P0001"),
    (rows(2).drop(columns="mean_radius"), "do not have the same columns: mean_radius only in one"),
    (rows(2).assign(mean_radius="large"), "do not agree on a column's type"),
])
def test_a_bad_partition_is_refused(tmp_path, frame, text):
    repository = copy_of_demo(tmp_path)
    add_partition(repository, frame)
    window = day(12, days=2)
    with pytest.raises(DataError, match=text):
        load.load_day(context(tmp_path, window, repository))


def test_a_missing_column_is_left_to_the_validation(tmp_path):
    repository = copy_of_demo(tmp_path)
    add_partition(repository, rows(2).drop(columns="mean_radius"))
    assert "mean_radius" not in load.load_day(context(tmp_path, THIRTEENTH, repository))


def test_nothing_is_written_to_the_repository_or_beside_the_step(tmp_path, monkeypatch):
    repository = copy_of_demo(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    shared = Path("/var/tmp/dvc/repo")
    before = sorted(repository.rglob("*")), sorted(shared.glob("*"))
    ctx = context(tmp_path / "step", day(3), repository)
    load.load_day(ctx)
    assert (sorted(repository.rglob("*")), sorted(shared.glob("*"))) == before
    assert list(scratch.iterdir()) == []


def _load(arguments):
    folder, repository, number = arguments
    return len(load.load_day(context(folder / f"step-{number}-{os.getpid()}", day(number), repository)))


def test_steps_that_read_at_once_share_no_lock(tmp_path):
    repository = copy_of_demo(tmp_path)
    lock = repository / ".dvc" / "tmp"
    lock.mkdir(exist_ok=True)
    # Somebody's `dvc add` is running: its locks must not stop a step.
    (lock / "lock").write_text("")
    (lock / "rwlock").write_text("{broken")
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        counts = list(pool.map(_load, [(tmp_path, repository, n) for n in (1, 2, 3, 4)] * 2))
    assert counts == [len(rows(n)) for n in (1, 2, 3, 4)] * 2


def test_the_working_tree_does_not_matter(tmp_path):
    repository = copy_of_demo(tmp_path)
    shutil.rmtree(repository / "breast_cancer")
    (repository / "breast_cancer.dvc").write_text("broken")
    pd.testing.assert_frame_equal(load.load_day(context(tmp_path, day(3), repository)), rows(3))
