import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airgate.authoring import signature, source
from airgate.authoring.signature import signature_of
from airgate.errors import WiringError, nearest

Write = Callable[[str], Path]
REF = "heart.steps:f"


def refusal(ref: str) -> str:
    with pytest.raises(WiringError) as caught:
        signature_of(ref)
    return str(caught.value)


def test_reads_kinds_defaults_lines_and_doc(write_steps: Write) -> None:
    path = write_steps(
        "def f(data: pd.DataFrame, model: Model, ctx: StepContext, *, seed: int = 7,\n"
        "      note: str | None = None) -> dict[str, float]:\n"
        '    """Do it."""\n')
    found = signature_of(REF)
    assert (found.file, found.line, found.returns, found.doc) == (str(path), 7, "json", "Do it.")
    assert {name: p.kind for name, p in found.parameters.items()} == {
        "data": "table", "model": "model", "ctx": "context", "seed": "json", "note": "json"}
    assert [name for name, p in found.parameters.items() if p.has_default] == ["seed", "note"]
    assert found.parameters["note"].line == 8
    assert "ctx" not in found.arguments()


@pytest.mark.parametrize(("annotation", "kind", "types"), [
    ("pd.DataFrame", "table", ()), ("'pd.DataFrame'", "table", ()), ("'Frame'", "table", ()), ("Frame", "table", ()),
    ("DF", "table", ()), ("pandas.DataFrame", "table", ()), ("Optional[pd.DataFrame]", "table", ()),
    ("pd.DataFrame | None", "table", ()), ("Annotated[pd.DataFrame, 'rows']", "table", ()),
    ("Model", "model", ()), ("XGBoostModel", "model", ()), ("Mine", "model", ()), ("Path", "file", ()),
    ("StepContext", "context", ()), ("dict", "json", ("dict",)), ("dict[str, Any]", "json", ("dict",)),
    ("list[dict[str, float]]", "json", ("list",)), ("int | str", "json", ("int", "str")),
    ("Union[int, float, None]", "json", ("int", "float")), ("Literal['a', 'b']", "json", ("str",)),
    ("Scores", "json", ("dict",)), ("Candidate", "json", ("dict",)), ("Any", "json", ("any",)),
])
def test_every_annotation_that_can_travel(write_steps: Write, annotation: str, kind: str, types: object) -> None:
    write_steps(
        "import pandas\nfrom pandas import DataFrame as DF\nfrom airgate.contracts.payloads import Candidate\n"
        "if TYPE_CHECKING:\n    from airgate.steps.model_xgboost import XGBoostModel\n"
        "Frame = pd.DataFrame\nclass Mine(Model): ...\nclass Base(TypedDict): ...\nclass Scores(Base): ...\n"
        f"def f(x: {annotation}) -> None: ...\n")
    parameter = signature_of(REF).parameters["x"]
    assert (parameter.kind, parameter.types) == (kind, frozenset(types))  # type: ignore[call-overload]


def test_follows_a_name_through_other_modules_of_the_models_folder(models: Path, write_steps: Write) -> None:
    (models / "_shared").mkdir()
    (models / "_shared" / "kinds.py").write_text("from pandas import DataFrame\nRows = DataFrame | None\n")
    (models / "heart").mkdir()
    (models / "heart" / "more.py").write_text(
        "from .._shared.kinds import Rows\ndef g(x: Rows) -> None: ...\n")
    path = write_steps("from .more import g as f\n")
    found = signature_of(REF)
    assert found.file == str(path.with_name("more.py"))
    assert (found.parameters["x"].kind, found.parameters["x"].optional) == ("table", True)


@pytest.mark.parametrize(("annotation", "message"), [
    ("DataFrame", "is 'DataFrame', which steps.py does not import; did you mean 'pd.DataFrame'? Allowed: Any, Mo"),
    ("pd.Series", "is 'pd.Series'; "), ("set[int]", "is 'set[int]'; did you mean 'int'? Allowed"),
    ("tuple[int, int]", "is 'tuple[int, int]'; "), ("list[pd.DataFrame]", "a table cannot travel inside a list"),
    ("dict[str, Model]", "a model cannot travel inside a dict"), ("dict[int, str]", "write dict[str, ...]"),
    ("dict[str]", "write dict[str, ...]"), ("Model | pd.DataFrame", "joins model and table: an edge carries one kind"),
    ("Plain", "is the class 'Plain', which is no Model, TypedDict or Contract"), ("lambda: 1", "is 'lambda: 1'"),
    ("'pd.Data Frame'", "is the text 'pd.Data Frame', which is not a Python expression"),
    ("Round", "goes round in a circle"), ("Literal[1.5]", "Literal of values"), ("None", "annotated None"),
    ("Knot", "goes round in a circle"),
])
def test_an_annotation_that_cannot_travel_is_refused(write_steps: Write, annotation: str, message: str) -> None:
    path = write_steps("class Plain: ...\nRound = Back\nBack = Round\nclass Knot(Knot): ...\n"
                       f"def f(x: {annotation}) -> None: ...\n")
    text = refusal(REF)
    assert message in text
    assert f"{path}, line 11: step 'heart.steps:f': argument 'x'" in text


@pytest.mark.parametrize(("code", "message"), [
    ("def f(x) -> None: ...", "argument 'x' has no annotation. Say what it is: pd.DataFrame, Model, Path"),
    ("def f(): ...", "the returned value has no annotation"),
    ("def f(*rows: int) -> None: ...", "takes '*rows'; a step names each of its arguments"),
    ("def f(**more: int) -> None: ...", "takes '**more'"),
    ("def f(x: int, /) -> None: ...", "remove the '/'"),
    ("async def f() -> None: ...", "is async; a step is a plain function. Write 'def f(...)'."),
    ("def f() -> StepContext: ...", "returns the StepContext"),
    ("def f() -> Model | None: ...", "returns a model or None; a step always gives the same kind of value"),
    ("class f: ...", "'f' in"), ("f = print", "is no function. A step is written with 'def'."),
    ("def _ff(): ...\ndef ff() -> None: ...", "has no function 'f'; did you mean 'ff'? Allowed: ff"),
    ("def f(:", "line 7: not valid Python: "), ("x = '\0'", "null bytes"), ("# \udcff", "can't decode byte 0xff"),
])
def test_a_function_that_is_no_step_is_refused(write_steps: Write, code: str, message: str) -> None:
    path = write_steps("")
    path.write_bytes(path.read_bytes() + code.encode(errors="surrogateescape") + b"\n")
    text = refusal(REF)
    assert message in text
    assert str(path) in text


@pytest.mark.parametrize(("ref", "message"), [
    ("hearth.steps:f", "there is no folder 'hearth' in {models}; did you mean 'heart'? Allowed: heart"),
    ("heart.step:f", "there is no 'step.py' in {models}/heart; did you mean 'steps'? Allowed: steps"),
    ("heart:f", "{models}/heart is a folder, not a module; name a file in it. Allowed: steps"),
    ("heart.steps:g", "{models}/heart/steps.py has no function 'g'; Allowed: f"),
    ("models.heart.steps:f", "'models.' is put in front for you; leave it out. Write 'heart.steps:f'."),
    ("airgate:f", "has no function 'f'"), ("airgate.error:f", "did you mean 'errors'? Allowed: "),
    ("airgate.steps.validat:check", "there is no 'validat.py' in"),
])
def test_a_reference_to_nothing_names_the_nearest(models: Path, write_steps: Write, ref: str, message: str) -> None:
    write_steps("def f() -> None: ...\n")
    assert message.format(models=models) in refusal(ref)


@pytest.mark.parametrize("ref", [
    "", ":", "f", "heart.steps", "heart.steps:", ":f", "heart..steps:f", "../heart.steps:f", "heart/steps:f",
    "heart.steps:f\n", "heart.steps:f()", "heart.steps:f:g", "heärt.steps:f", "/etc/passwd:f", "heart.steps.:f",
    ".heart:f", "a b:f", None, 7,
])
def test_what_is_no_reference_is_refused(models: Path, ref: object) -> None:
    assert "not a reference. Write '<module>:<function>'" in refusal(ref)  # type: ignore[arg-type]


def test_an_unreadable_file_is_a_wiring_error(models: Path) -> None:
    with pytest.raises(WiringError, match=r"cannot be read: No such file"):
        source.load_file(models / "gone.py", "models.gone")


def test_a_file_is_parsed_once_and_again_when_it_changes(write_steps: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_steps("def f() -> None: ...\n")
    parsed: list[Path] = []
    parse = source._parse

    def counting(file: Path, text: bytes) -> object:
        parsed.append(file)
        return parse(file, text)

    monkeypatch.setattr(source, "_parse", counting)
    assert signature_of(REF).returns is signature_of(REF).returns is None
    assert parsed == [path]
    stat = path.stat()
    write_steps("def f() -> dict: ...\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert signature_of(REF).returns == "json"


def test_nothing_heavy_and_not_the_module_itself_is_imported(write_steps: Write) -> None:
    write_steps("raise SystemExit('imported!')\ndef f() -> None: ...\n")
    code = ("import sys, airgate.authoring\nassert 'airflow' not in sys.modules\n"
            "from airgate.authoring.signature import signature_of\nsignature_of('heart.steps:f')\n"
            "heavy = {'pandas', 'numpy', 'airflow', 'models', 'mlflow', 'torch'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    include = Path(source.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(include)})


fixture_per_run = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.text(st.sampled_from("abfhrstep_1."), min_size=1, max_size=12)


@fixture_per_run
@given(ref=st.one_of(st.text(max_size=20), st.builds("{}:{}".format, names, names),
                     st.builds("heart.{}:{}".format, names, names), st.builds("airgate.{}:{}".format, names, names)))
@example("heart.steps.f:f")
@example("airgate.steps:f")
@example("heart.steps:f")
def test_any_reference_gives_a_signature_or_a_wiring_error(write_steps: Write, ref: str) -> None:
    write_steps("def f() -> None: ...\n")
    try:
        assert signature_of(ref).ref == ref
    except WiringError as error:
        assert "step" in str(error)


@fixture_per_run
@given(annotation=st.recursive(
    st.sampled_from(["int", "pd.DataFrame", "Model", "None", "Any", "x", "pd", "'int'", "''", "'(('", "1", "...",
                     "[int]", "A.b"]),
    lambda inner: st.one_of(st.builds("dict[{}, {}]".format, inner, inner), st.builds("{} | {}".format, inner, inner),
                            st.builds("Optional[{}]".format, inner), st.builds("Literal[{}]".format, inner),
                            st.builds("Union[{}, {}]".format, inner, inner), st.builds("list[{}]".format, inner)),
    max_leaves=6))
def test_any_annotation_gives_a_signature_or_a_wiring_error(write_steps: Write, annotation: str) -> None:
    write_steps(f"A = pd\ndef f(x: {annotation}) -> None: ...\n")
    source._parsed.clear()
    try:
        assert signature_of(REF).parameters["x"].kind in ("table", "model", "json")
    except WiringError as error:
        assert "argument 'x'" in str(error)


@given(name=st.text(max_size=30), allowed=st.lists(st.text(max_size=10), max_size=8))
def test_nearest_never_fails_and_always_lists(name: str, allowed: list[str]) -> None:
    text = nearest(name, allowed)
    assert "Allowed: " in text
    assert all(item in text for item in allowed)
    if name in allowed and name:
        assert text.startswith(f"did you mean '{name}'?")


def test_the_words_cover_every_kind() -> None:
    assert set(signature.KIND_WORDS) == {"table", "model", "json", "file"}
