"""One sound file of each format, as its own library writes it, and a writer for forged ONNX."""

import io
import os
import pickle
import warnings
import zipfile
from base64 import b64decode
from functools import lru_cache
from typing import Any

import numpy as np
import safetensors.numpy
import xgboost as xgb
from sklearn.linear_model import LogisticRegression

from airgate.steps.formats import Format

with warnings.catch_warnings():
    # skops looks through every loaded module; where other tests loaded Airflow, it meets names that Airflow deprecates.
    warnings.simplefilter("ignore")
    import skops.io

# onnx 1.23.2, which is none of our packages, wrote this: MatMul with weights, an If with two graphs in it, Sigmoid.
ONNX = b64decode(
    "CA4SB2FpcmdhdGU6qgIKEgoBeAoBdxICeTAiBk1hdE11bAquAQoBYxIBeiICSWYqUAoLZWxzZV9icmFuY2gyPgolEgF0IghDb25zdGFudCoWCg"
    "V2YWx1ZSoKCAEQAUoEAACAP6ABBBIEdGhlbmIPCgF0EgoKCAgBEgQKAggBoAEFKlAKC3RoZW5fYnJhbmNoMj4KJRIBdCIIQ29uc3RhbnQqFgoF"
    "dmFsdWUqCggBEAFKBAAAgD+gAQQSBHRoZW5iDwoBdBIKCggIARIECgIIAaABBQoQCgJ5MBIBeSIHU2lnbW9pZBIBZyoXCAMIARABQgF3SgwAAI"
    "A/AACAPwAAgD9aEQoBeBIMCgoIARIGCgAKAggDWg8KAWMSCgoICAkSBAoCCAFiEQoBeRIMCgoIARIGCgAKAggBQgQKABAR")


@lru_cache
def sound() -> dict[Format, bytes]:
    """Bytes of a small model in each format."""
    values = np.random.default_rng(0).random((40, 3))
    labels = (values[:, 0] > 0.5).astype(int)
    trees = xgb.train({"objective": "binary:logistic", "max_depth": 2, "nthread": 1}, xgb.DMatrix(values, label=labels), 2)
    tensors = {"mean": np.zeros(3), "weight": np.ones((2, 3), dtype="f4"), "none": np.zeros((0, 3))}
    return {
        "XGBoost UBJ": bytes(trees.save_raw("ubj")), "XGBoost JSON": bytes(trees.save_raw("json")),
        "safetensors": safetensors.numpy.save(tensors, metadata={"made by": "a test"}),
        "skops": skops.io.dumps(LogisticRegression().fit(values, labels)), "ONNX": ONNX,
    }


class Bomb:
    """A pickle of it runs a program when it is loaded. No test does."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo you loaded it",)


def pickled(protocol: int = 4) -> bytes:
    return pickle.dumps({"model": Bomb()}, protocol)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def message(*fields: tuple[int, Any]) -> bytes:
    """A protobuf message of varints and bytes."""
    return b"".join(_varint(number << 3) + _varint(value) if isinstance(value, int)
                    else _varint(number << 3 | 2) + _varint(len(value)) + value for number, value in fields)


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def skops_file(model: Any) -> bytes:
    """A model as skops writes it."""
    return bytes(skops.io.dumps(model))
