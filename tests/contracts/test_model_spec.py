from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airgate.contracts.model_spec import GatesSpec, MetricBound, load_spec
from airgate.errors import SpecError

SOUND: dict[str, Any] = {
    "name": "m", "title": "M", "owner": "mia@example.com", "purpose": "to test", "risk": "high",
    "data": {"dataset": "d", "id": "key", "label": "y", "columns": {"x": {"type": "float", "min": 0, "max": 1}}},
    "gates": {"metrics": {"roc_auc": {"min": 0.9}}},
    "promotion": {"approvers": {"ml_engineer": ["ana"], "risk_officer": ["omar"]}},
    "schedule": {"start": "2026-01-01"},
}
Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_folder(content: Any) -> Path:
        folder = tmp_path / "m"
        folder.mkdir(exist_ok=True)
        (folder / "model.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return folder
    return to_folder


def changed(path: str, value: Any) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(yaml.safe_dump(SOUND))
    *parents, last = path.split(".")
    place = spec
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return spec


def test_a_sound_file(write: Write) -> None:
    spec = load_spec(write(SOUND))
    assert spec.name == "m"
    assert spec.resources("train").memory == "2Gi"


@pytest.mark.parametrize(("path", "value", "message"), [
    ("ownr", "x", "unknown key 'ownr'; did you mean 'owner'?"),
    ("gates.metric", {}, "unknown key 'gates.metric'; did you mean 'metrics'?"),
    ("data.columns.x.mn", 0, "unknown key 'data.columns.x.mn'; did you mean 'min'?"),
    ("gates.metrics.roc_auk", {"min": 0.5}, "'roc_auk' is no metric; did you mean 'roc_auc'?"),
    ("gates.metrics.roc_auc", {"min": 1.2}, "metrics.roc_auc: 1.2 can never be met or missed; allowed: 0 to 1"),
    ("gates.metrics.roc_auc", {"min": 0.9, "max": 0.8}, "min 0.9 is above max 0.8: no value can pass"),
    ("gates.metrics.roc_auc", {}, "give min, max or both"),
    ("gates.metrics.roc_auc", {"min": float("nan")}, "finite number"),
    ("gates.metrics", {}, "gates.metrics"),
    ("data.columns.x", {"type": "float", "min": 2, "max": 1}, "min 2.0 is above max 1.0"),
    ("data.columns.x", {"type": "flaot"}, "Input should be 'float'"),
    ("data.label", "x", "'x' is the label and cannot be a feature too: it would leak the answer"),
    ("data.dataset", "../../etc", "data.dataset"),
    ("promotion.approvers", {"one": ["ana"]}, "approvers needs exactly two roles, got 1: one"),
    ("promotion.approvers", {"one": ["ana"], "two": ["ana"]}, "one person in both roles: two different people must agree"),
    ("promotion.approvers", {"one": [], "two": ["ana"]}, "approvers.one names nobody"),
    ("promotion.approvers", {"one": ["ana"], "two": ["Ana "]}, "one person in both roles: two different people must agree"),
    ("promotion.approvers", {"one": ["ana", " "], "two": ["omar"]}, "approvers.one holds an empty name; write the name that the"),
    ("promotion.statements", {"risk_oficer": "I looked."},
     "statements.risk_oficer belongs to no role of approvers; did you mean 'risk_officer'? Allowed: ml_engineer, risk_officer"),
    ("promotion.statements", {"risk_officer": " "}, "statements.risk_officer has 0 characters; write what its approval means"),
    ("steps", {"train": {"memory": "2GB"}}, "steps.train.memory"),
    ("risk", None, "risk"),
    ("name", "Other Name", "name"),
    ("name", "other", "name is 'other' but the folder is 'm'"),
    ("owner", "", "owner"),
])
def test_what_is_wrong_is_named(write: Write, path: str, value: Any, message: str) -> None:
    folder = write(changed(path, value))
    with pytest.raises(SpecError) as caught:
        load_spec(folder)
    assert message in str(caught.value)
    assert str(folder / "model.yaml") in str(caught.value)


def test_a_missing_key(write: Write) -> None:
    without = {key: value for key, value in SOUND.items() if key != "gates"}
    with pytest.raises(SpecError, match="gates: Field required"):
        load_spec(write(without))


@pytest.mark.parametrize(("content", "message"), [
    ("name: m\nname: n\n", "key 'name' is given twice; keep one"), ("start: 2026-02-31", "not readable as YAML: day"),
    ("", "expected a mapping of keys, got NoneType"), ("- a\n- b\n", "got list"), ("a: [", "not readable as YAML"),
    ("!!python/object/apply:os.system ['true']", "not readable as YAML"), ("name: m\x00", "not readable as YAML")])
def test_what_is_no_mapping(write: Write, content: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(write(content))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="file is missing. A model is a folder with model.yaml and steps.py"):
        load_spec(tmp_path / "m")


def test_the_fingerprint_changes_with_every_threshold() -> None:
    base = GatesSpec(metrics={"roc_auc": MetricBound(min=0.9)})
    others = [base.model_copy(update={"confidence": 0.9}), base.model_copy(update={"resamples": 500}),
              GatesSpec(metrics={"roc_auc": MetricBound(min=0.91)}), GatesSpec(metrics={"recall": MetricBound(min=0.9)})]
    prints = {spec.fingerprint() for spec in [base, *others]}
    assert len(prints) == 5
    assert base.fingerprint() == GatesSpec(metrics={"roc_auc": MetricBound(min=0.9)}).fingerprint()


trees = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                     lambda inner: st.lists(inner, max_size=3)
                     | st.dictionaries(st.sampled_from([*SOUND, "x"]), inner, max_size=4))


@given(trees)
def test_whatever_the_file_holds_the_error_is_ours(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    folder = tmp_path_factory.mktemp("any") / "m"
    folder.mkdir()
    (folder / "model.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(SpecError):
        load_spec(folder)
