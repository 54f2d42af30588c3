"""A folder encrypted file by file, with its wrapped data keys inside: what MLflow stores of a model's version.

    weights.enc, sub/header.json.enc, ...     each an envelope, bound to its file's path in the folder
    keys/ab/<id>.json                         its wrapped data key

It can be told from a plain one by its folder `keys`. Whether the files are the right ones is not known here: the reader compares
the manifest's digest of what comes out, as it does with a plain folder.
"""

from __future__ import annotations

from pathlib import Path

from airgate.encryption.at_rest import KEYS, SUFFIX, AtRest, no_keys
from airgate.encryption.envelope import EnvelopeError
from airgate.encryption.keys import KeyService, from_settings


def seal_folder(folder: Path, to: Path, keys: KeyService) -> Path:
    """Encrypt every file of `folder` into `to`, which is made, and give `to`. Raises ArtifactError when a KMS does not answer."""
    at_rest = AtRest(str(to), keys)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        target = to / f"{name}{SUFFIX}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, target.open("wb") as sealed:
            at_rest.encrypt(source, sealed, name)
    return to


def is_sealed(folder: Path) -> bool:
    """Whether a folder is one that `seal_folder` made."""
    return (folder / KEYS).is_dir()


def open_folder(folder: Path, to: Path, where: str, keys: KeyService | None = None) -> Path:
    """Decrypt a folder into `to`, which must not exist yet, and give `to`. `where` names the folder in errors.

    `keys` are those of AIRGATE_STORE_KEYS unless given. Raises WrongKeyError when they do not open it, EnvelopeError when a
    file was changed or does not belong there.
    """
    keys = keys or from_settings()
    if keys is None:
        raise no_keys(where)
    at_rest = AtRest(str(folder), keys)
    to.mkdir(mode=0o700, parents=True)
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(f"{KEYS}/"):
            continue
        if path.is_symlink() or not name.endswith(SUFFIX):
            raise EnvelopeError(f"{where}/{name}: a file that is not encrypted, in a folder that is. Somebody added it: do not "
                                "use this folder.")
        plain = to / name.removesuffix(SUFFIX)
        plain.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as sealed, plain.open("wb") as target:
            at_rest.decrypt(sealed, target, name.removesuffix(SUFFIX), f"{where}/{name.removesuffix(SUFFIX)}")
    return to
