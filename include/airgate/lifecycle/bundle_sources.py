"""From which installations bundles are taken: the file that AIRGATE_BUNDLE_SOURCES names, which says whose keys count.

    staging:                                            # AIRGATE_ENVIRONMENT there
      keys: [staging+1f2e3d4c+AbCd...]                  # `airgate model key` there
      log: [audit.staging.example.org/airgate+5b6a7988+EfGh...]   # the first line of `airgate audit keys` there

A key listed here lets a version in to be judged, and no more: which signatures let a model be loaded, AIRGATE_MODEL_TRUST says.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from airgate.audit.verifier import VerifierKey
from airgate.contracts import yaml_file
from airgate.contracts.base import Contract
from airgate.errors import ConfigError
from airgate.signatures.keys import Keyring, PublicKey


@dataclass(frozen=True)
class Source:
    """An installation: its environment's name, the keys of its bundles, and the keys that its audit log begins with."""

    environment: str
    keys: Keyring
    log: tuple[VerifierKey, ...]


Sources = dict[str, Source]


class _Entry(Contract):
    keys: list[str] = Field(min_length=1)
    log: list[str] = Field(min_length=1)


def read(path: Path | None) -> Sources:
    """Read the sources, by environment. Raises ConfigError, which says what is wrong and where."""
    if path is None:
        raise ConfigError("no installation is named from which bundles may come: let AIRGATE_BUNDLE_SOURCES name a file that "
                          "lists the public keys of those that may. See docs/bundles.md")
    try:
        entries = TypeAdapter(dict[str, _Entry]).validate_python(yaml_file.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"AIRGATE_BUNDLE_SOURCES names {path}, which cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{path}: {where}: {first['msg']}. Allowed: for each environment `keys` (what `airgate model key` "
                          "prints there) and `log` (the first line that `airgate audit keys` prints there)") from None
    return {name: _source(path, name, entry) for name, entry in entries.items()}


def _source(path: Path, name: str, entry: _Entry) -> Source:
    try:
        keys, log = tuple(map(PublicKey.parse, entry.keys)), tuple(map(VerifierKey.parse, entry.log))
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{path}: {name}: {error}") from None
    for key in keys:
        if key.name != name:
            raise ConfigError(f"{path}: {name}: the key {key.keyid} speaks for '{key.name}'. List it there: a key speaks for one "
                              "environment only")
    return Source(name, keys, log)
