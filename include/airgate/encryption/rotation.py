"""Which keys a store needs, and wrapping its data keys anew. The encrypted artifacts themselves are not touched, nor read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from airgate.contracts import small_files
from airgate.encryption.at_rest import KEYS, SUFFIX, read_wrapped, unwrapped, wrapped_key
from airgate.encryption.keys import KeyService
from airgate.errors import AirgateError


@dataclass(frozen=True)
class Status:
    """What lies in a store: files encrypted and plain, and how many data keys each key wraps."""

    encrypted: int
    plain: int
    wrapped_by: dict[str, int]


@dataclass
class Rotation:
    """What a rotation did: data keys wrapped anew, those that were already so, and those that could not be, with why."""

    rewrapped: int = 0
    current: int = 0
    failed: list[str] = field(default_factory=list)

    def __add__(self, other: Rotation) -> Rotation:
        """Both together."""
        return Rotation(self.rewrapped + other.rewrapped, self.current + other.current, self.failed + other.failed)


def status(root: str) -> Status:
    """Look at every wrapped data key of the store at `root`, and count its files. Needs no key.

    Raises ArtifactError when the store cannot be read or a wrapped key is damaged.
    """
    files = small_files.files_below(f"{root}/sha256")
    encrypted = sum(name.endswith(SUFFIX) for name in files)
    return Status(encrypted, len(files) - encrypted, wrapped_by(root))


def wrapped_by(root: str) -> dict[str, int]:
    """How many data keys each key wraps. Raises ArtifactError as `status` does."""
    return dict(Counter(read_wrapped(small_files.read_bytes(url), _id(url)).key for url in wrapped_keys(root)))


def rotate(root: str, keys: KeyService) -> Rotation:
    """Wrap each data key of the store at `root` with the current key. May be repeated, interrupted, and run beside steps.

    What cannot be unwrapped is left as it is and named. Raises ArtifactError when the store cannot be read.
    """
    done = Rotation()
    for url in wrapped_keys(root):
        try:
            if rewrap(url, keys):
                done.rewrapped += 1
            else:
                done.current += 1
        except AirgateError as error:
            done.failed.append(f"{url}: {error}")
    return done


def rewrap(url: str, keys: KeyService) -> bool:
    """Wrap the data key at `url` with the current key; False when it is so already.

    Raises WrongKeyError when no key here opens it, ArtifactError when it cannot be read or written.
    """
    name, document = _id(url), small_files.read_bytes(url)
    if read_wrapped(document, name).key == keys.current:
        return False
    data_key = unwrapped(keys, document, name)
    anew = wrapped_key(keys, data_key, name)
    # The old wrapping is about to be gone: what cannot be read back would be lost.
    if unwrapped(keys, anew, name) != data_key:
        raise AirgateError(f"the key {keys.current} gives back another data key than it was given; nothing was changed")
    small_files.write_bytes(url, anew)
    return True


def wrapped_keys(root: str) -> list[str]:
    """The URLs of a store's wrapped data keys. What a killed writer left half-written is not among them."""
    return [url for url in small_files.files_below(f"{root}/{KEYS}") if url.endswith(".json") and not _id(url).startswith(".")]


def key_lines(wraps: Mapping[str, int], keys: KeyService | None) -> list[str]:
    """In words: which keys are needed, which are missing, and which a rotation frees."""
    said = []
    for name, count in sorted(wraps.items()):
        note = "no keys are configured" if keys is None else _note(keys, name)
        said.append(f"key {name}: wraps {count} data keys; {note}")
    if keys is not None and keys.current not in wraps:
        said.append(f"key {keys.current}: current, wraps nothing yet")
    return said


def _note(keys: KeyService, name: str) -> str:
    if name == keys.current:
        return "current"
    return "here; `airgate store rotate` frees it" if keys.holds(name) else "NOT in AIRGATE_STORE_KEYS: these cannot be read"


def _id(url: str) -> str:
    return url.rpartition("/")[2].removesuffix(".json")
