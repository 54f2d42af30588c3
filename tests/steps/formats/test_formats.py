"""What each library writes is taken; whatever may run code, hides something, or is cut, is refused and named."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
import zlib
from typing import Any, get_args

import joblib
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from tests.steps.formats.samples import message, npy, pickled, skops_file, sound, unzipped, zipped

from airgate.errors import ArtifactError
from airgate.steps import formats
from airgate.steps.formats import Format

ALL: tuple[Format, ...] = get_args(Format)


def tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("model.safetensors")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def torch_saved(new: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def dumped(value: Any, compress: Any = 0) -> bytes:
    file = io.BytesIO()
    joblib.dump(value, file, compress=compress)
    return file.getvalue()


DISGUISED: dict[str, tuple[bytes, str]] = {
    **{f"pickle, protocol {one}": (pickled(one), "a pickle, which runs code") for one in range(6)},
    "gzip": (gzip.compress(pickled()), "packed with gzip, and in it a pickle"),
    "bzip2": (bz2.compress(pickled()), "packed with bzip2, and in it a pickle"),
    "xz": (lzma.compress(pickled()), "packed with xz, and in it a pickle"),
    "lzma": (lzma.compress(pickled(), lzma.FORMAT_ALONE), "packed with lzma, and in it a pickle"),
    "zlib": (zlib.compress(pickled()), "packed with zlib, and in it a pickle"),
    "gzip in zlib": (zlib.compress(gzip.compress(pickled(0))), "with zlib, and in it packed with gzip, and in it a pickle"),
    "tar": (tarred(pickled()), "a tar archive, and in it a pickle"),
    "tar.gz": (gzip.compress(tarred(pickled())), "packed with gzip, and in it a tar archive, and in it a pickle"),
    "zip": (zipped({"model.ubj": pickled()}), "a ZIP archive that holds a pickle, 'model.ubj'"),
    "npy": (npy(np.array([{}], dtype=object)), "a NumPy array of objects, which is a pickle"),
    "npy, records": (npy(np.array([(1, {})], dtype=[("a", "i4"), ("b", object)])), "a NumPy array of objects"),
    "npz": (zipped({"a.npy": npy(np.array([{}], dtype=object))}), "holds a pickle: 'a.npy' is a NumPy array of objects"),
    "torch": (torch_saved(True), "a ZIP archive that holds a pickle, 'archive/data.pkl' .as torch.save writes"),
    "torch before 1.6": (torch_saved(False), "a pickle"),
    "joblib": (dumped({"a": np.zeros(2)}), "a pickle"),
    "joblib, packed": (dumped({"a": np.zeros(2)}, ("gzip", 3)), "packed with gzip, and in it a pickle"),
    "skops with an array of objects": (
        zipped({**unzipped(sound()["skops"]), "1.npy": npy(np.array([{}], dtype=object))}), "1.npy is a pickle: a NumPy array"),
    "skops with a pickle": (zipped({**unzipped(sound()["skops"]), "1.npy": pickled()}), "1.npy is no NumPy array"),
}


@pytest.mark.parametrize("name", ALL)
def test_what_the_libraries_write_is_told_by_its_bytes(name: Format) -> None:
    assert formats.check(sound()[name], "any.name") == name
    assert formats.check(sound()[name], "any.name", {name}) == name


@pytest.mark.parametrize("name", DISGUISED)
@pytest.mark.attack("a pickle in disguise")
def test_a_pickle_is_refused_however_it_is_named_and_wrapped(name: str) -> None:
    data, said = DISGUISED[name]
    with pytest.raises(ArtifactError, match=f"model.ubj: .*{said}.* Allowed: ONNX, XGBoost JSON.*Model.save.. does"):
        formats.check(data, "model.ubj")


CALL = b"cbuiltins\nlen\n(S'four'\ntR"  # len('four'), as opcodes of protocol 0


def both(call: bytes) -> bytes:
    """A safetensors file that is a pickle too. As opcodes, the length of its header is BINBYTES, a jump into a text of it;
    from there SHORT_BINSTRINGs jump on, by 128 bytes each, and the last one lands in a tensor, where `call` stands."""
    tensor = b"x" * 18 + call
    begin = b'{"__metadata__":{"x":"'
    end = b'"},"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(tensor), len(tensor))
    size = ord("B") | (len(begin) + 3) << 8
    hops = b"U<" + b"." * 60 + (b"U~" + b"." * 126) * 49 + b"U~"
    return size.to_bytes(8, "little") + (begin + hops + end).ljust(size) + tensor


@pytest.mark.parametrize("after", [b".", b"", b"\xff"])
@pytest.mark.attack("a safetensors file that is a pickle too")
def test_a_safetensors_file_that_is_a_pickle_too_is_refused(after: bytes) -> None:
    assert list(safetensors.numpy.load(both(CALL + after))) == ["a"]
    assert pickle.loads(both(CALL + b".")) == 4
    with pytest.raises(ArtifactError, match="x: safetensors and a pickle at once, made to be taken for either"):
        formats.check(both(CALL + after), "x")
    assert formats.check(both(b"no opcodes"), "x") == "safetensors"


@pytest.mark.parametrize(("data", "said"), [
    (b"", "an empty file"), (b"\x00" * 40, "in no known format .it begins with 00 00"), (b"GIF89a", "it begins with 47 49 46"),
    (b"#!/bin/sh\n", "a script"), (b"\x7fELF", "a program"), (b"<PMML>", "XML"), (b"\x89HDF\r\n", "HDF5"),
    (npy(np.zeros(3)), "a NumPy array, no model"), (zipped({"a.txt": b"x"}), "no skops file .*: it holds 'a.txt'"),
    (zipped({"1.npy": npy(np.zeros(3))}), "it holds no schema.json"), (zipped({}), "an empty or damaged ZIP"),
    (b"{}", "no XGBoost model: .* here is nothing"), (b'{"learner":{},"version":[3,2,0],"x":1}', "here is learner, version, x"),
    (b'{"learner":{"gradient_booster":{"name":"mine"}},"version":[]}', "gradient_booster is 'mine'; known are gbtree"),
    (b"{" * 100_000, "not JSON"), (b'{"a":' * 100_000, "not JSON: maximum recursion"), (b'{"a":1,"a":2}', "with a name twice"),
    (b'{"a":' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit"), (b'{"\xff":1}', "not JSON"),
    (b"{L" + b"\xff" * 8, "length of -1"), (b"{L" + b"\x00" * 7 + b"\x01a{", "UBJ that is cut off"),
    (b"{L" + b"\x00" * 7 + b"\x01a" + b"[" * 100, "UBJ nested more than 64"),
    (b"{L" + b"\x00" * 7 + b"\x01aN}", "UBJ with b'N' at byte 11"),
])
def test_what_is_nothing_we_know_is_named(data: bytes, said: str) -> None:
    with pytest.raises(ArtifactError, match=f"weights: .*{said}"):
        formats.check(data, "weights")


@pytest.mark.parametrize("name", ALL)
def test_another_format_than_the_one_that_belongs_is_refused(name: Format) -> None:
    other: Format = "safetensors" if name != "safetensors" else "ONNX"
    with pytest.raises(ArtifactError, match=f"{name}, where {other} belongs. Allowed: {other}, which"):
        formats.check(sound()[name], "x", {other})


@pytest.mark.parametrize("name", ALL)
def test_a_cut_file_and_one_with_more_after_its_end_are_refused(name: Format) -> None:
    data = sound()[name]
    for end in range(0, len(data), max(1, len(data) // 50)):
        with pytest.raises(ArtifactError):
            formats.check(data[:end], "x")
    for more in (b"\x00", b"x", pickled(0), data):
        with pytest.raises(ArtifactError):
            formats.check(data + more, "x")
        with pytest.raises(ArtifactError):
            formats.check(more + data, "x")


def safe(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


TENSOR = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


@pytest.mark.parametrize(("data", "said"), [
    (safe({"a": TENSOR}, b"xxx"), "do not cover the 3 bytes"), (safe({"a": TENSOR}, b"x"), "do not cover"),
    (safe({"a": TENSOR, "b": TENSOR}, b"xx"), "do not cover"),
    (safe({"a": {**TENSOR, "data_offsets": [1, 3]}}, b"xxx"), "do not cover"),
    (safe({"a": {**TENSOR, "shape": [3]}}, b"xx"), "'a' has not the bytes"),
    (safe({"a": {**TENSOR, "shape": [-1, -2]}}, b"xx"), "'a' has not the bytes"),
    (safe({"a": {**TENSOR, "shape": [2**62, 2**62]}}, b"xx"), "'a' has not the bytes"),
    (safe({"a": {**TENSOR, "shape": [True, 2]}}, b"xx"), "'a' has not the bytes"),
    (safe({"a": {**TENSOR, "dtype": "O"}}, b"xx"), "unknown type 'O'"), (safe({"a": 1}), "'a' is not dtype, shape"),
    (safe({"__metadata__": {"a": 1}}), "__metadata__"), (safe(b'{"a":1,"a":1}'), "a name twice"),
    (b"\xff\x00\x00\x00\x00\x00\x00\x00{}", "header would have 255 bytes"),
])
def test_a_forged_safetensors_header_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        formats.check(data, "x")


def onnx(graph: bytes = b"", opset: bytes = b"\x10\x11", *more: tuple[int, Any]) -> bytes:
    return message((1, 8), (7, graph), (8, opset), *more)


NODE = message((1, b"x"), (2, b"y"), (4, b"Relu"))


@pytest.mark.parametrize(("data", "said"), [
    (onnx(message((5, message((13, b"..")))), ), r"another file \(external_data\); save it in one file"),
    (onnx(message((5, message((14, 1))))), r"another file \(data_location\)"),
    (onnx(message((15, message((1, message((14, 1))))))), "data_location"),
    (onnx(message((1, message((5, message((5, message((14, 1))))))))), "data_location"),
    (onnx(message((1, message((5, message((6, message((5, message((14, 1))))))))))), "data_location"),
    (onnx(b"", b"\x10\x11", (20, message((1, message((5, message((14, 1)))))))), "data_location"),
    (onnx(b"", b"\x10\x11", (25, message((7, message((5, message((5, message((14, 1)))))))))), "data_location"),
    (onnx(message((1, message((4, b"PyOp"), (7, b"ai.onnx.contrib"))))), "domain 'ai.onnx.contrib', which need code"),
    (onnx(b"", message((1, b"com.example"), (2, 1))), "domain 'com.example'"),
    (message((1, 8), (7, b"")), "no ONNX model"), (onnx(b"", b"", (99, b"x")), "nothing that ONNX does not know"),
    (message((1, 8), (7, 3), (8, b"")), "field 7 of its model is a number"), (b"\x08\x08\x0b", "wire type 3"),
    (b"\x08\x08\x3a\xff\x01", "cut off"), (b"\x08\xff", "cut off"), (b"\x08" + b"\xff" * 11, "more than ten bytes"),
    (b"\x08\x08\x00\x00", "field number"), (b"\x08\x08" + b"\xf0\x80\x80\x80\x80\x01" + b"\x01", "field number"),
])
def test_onnx_that_points_outside_itself_or_is_forged_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        formats.check(data, "x")


def test_onnx_may_use_functions_that_it_defines() -> None:
    graph = message((1, message((4, b"F"), (7, b"mine"))))
    assert formats.check(onnx(graph, b"\x10\x11", (25, message((1, b"F"), (10, b"mine"), (7, NODE)))), "x") == "ONNX"


def test_onnx_nested_too_deep_is_refused() -> None:
    graph = b""
    for _ in range(60):
        graph = message((1, message((5, message((6, graph))))))
    with pytest.raises(ArtifactError, match="nested more than 100 deep"):
        formats.check(onnx(graph), "x")


def changed(**more: bytes) -> dict[str, bytes]:
    return {**unzipped(sound()["skops"]), **more}


def schema(change: Any) -> bytes:
    files = unzipped(sound()["skops"])
    value = json.loads(files["schema.json"])
    return zipped({**files, "schema.json": json.dumps(change(value)).encode()})


@pytest.mark.parametrize(("data", "said"), [
    (schema(lambda s: {**s, "__module__": "os", "__class__": "system"}), "types that nobody reviewed: os.system"),
    (schema(lambda s: {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": "x", "protocol": 2,
                       "_skops_version": "0.16.0"}), "nobody reviewed: os.system|cannot be read"),
    (schema(lambda s: []), "schema that cannot be read"), (schema(lambda s: {"protocol": 2}), "schema that cannot be read"),
    (zipped({**changed(), "../../etc/x.npy": b""}), "it holds '../../etc/x.npy'"),
    (zipped({**changed(), "a/": b""}), "it holds 'a/'"),
    (zipped(changed(**{"1.npy": npy(np.zeros(2))[:-1]})), "1.npy has not the bytes"),
    (zipped(changed(**{"1.npy": npy(np.zeros(2)) + b"x"})), "1.npy has not the bytes"),
    (zipped(changed(**{"1.npy": bytes(200 << 10)}), zipfile.ZIP_DEFLATED), "no NumPy array|archive bomb"),
    (zipped(changed(**{"1.npy": bytes(20 << 20)}), zipfile.ZIP_DEFLATED), "an archive bomb: .* unfold to 209"),
    (zipped(changed(), zipfile.ZIP_LZMA), "packed in an unusual way"),
])
def test_a_forged_skops_file_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        formats.check(data, "x")


def test_an_array_that_the_schema_names_again_and_again_is_a_bomb() -> None:
    def again(value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "more": [{"file": "1.npy"}] * 10_000}

    files = {**unzipped(schema(again)), "1.npy": npy(np.zeros(50_000))}
    with pytest.raises(ArtifactError, match="an archive bomb: its schema names arrays of 40"):
        formats.check(zipped(files), "x")


@pytest.mark.parametrize("change", ["prefix", "between", "comment", "twice"])
def test_what_another_program_would_see_in_a_zip_is_refused(change: str) -> None:
    """Bytes that one reader of ZIP archives skips are another one's contents."""
    data = sound()["skops"]
    if change == "prefix":
        data = zipped({"x": b"y"})[:33] + data
    elif change == "comment":
        file = io.BytesIO(data)
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = b"x"
        data = file.getvalue()
    elif change == "between":
        at = data.index(b"PK\1\2")
        start = int.from_bytes(data[-6:-2], "little") + 4
        data = data[:at] + b"xxxx" + data[at:-6] + start.to_bytes(4, "little") + data[-2:]
    else:
        with pytest.warns(UserWarning, match="Duplicate name"):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                for name, content in [*unzipped(data).items(), ("schema.json", b"{}")]:
                    archive.writestr(name, content)
        data = file.getvalue()
    with pytest.raises(ArtifactError, match="something hidden before, between or after|with one name twice"):
        formats.check(data, "x")


def test_skops_takes_no_type_that_it_does_not_trust_itself() -> None:
    forest = RandomForestClassifier(n_estimators=1, max_depth=1).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ArtifactError, match="types that nobody reviewed: sklearn.tree._tree.Tree"):
        formats.check(skops_file(forest), "x")


BEGINNINGS = [b"", b"{", b"{L", b"PK\3\4", b"\x08", b"\x08\x00\x00\x00\x00\x00\x00\x00{", b"\x80\x04", b"\x93NUMPY\1\0",
              b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x78\x9c", b"\x5d\0\0", b"PK", b"("]


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300))
@settings(max_examples=300)
def test_no_bytes_crash_it(beginning: bytes, rest: bytes) -> None:
    try:
        found = formats.check(beginning + rest, "x")
    except ArtifactError as error:
        assert str(error).startswith("x: ")
    else:
        assert found in ALL


@given(st.sampled_from(ALL), st.data())
@settings(max_examples=200)
def test_no_damage_crashes_it(name: Format, draw: st.DataObject) -> None:
    data = sound()[name]
    at = draw.draw(st.integers(0, len(data) - 1))
    length = draw.draw(st.sampled_from([0, 1, 1, 1, 4, 40]))
    damaged = data[:at] + draw.draw(st.binary(max_size=8)) + data[at + length :]
    try:
        assert formats.check(damaged, "x") in ALL
    except ArtifactError as error:
        assert str(error).startswith("x: ")


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_opcodes_of_pickle_do_not_crash_it_either(rest: bytes) -> None:
    with pytest.raises(ArtifactError, match="a pickle"):
        formats.check(pickled(2)[:-1] + rest, "x")
