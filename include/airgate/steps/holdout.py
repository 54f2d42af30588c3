"""Which rows training never sees: a rule on the row's id alone, so that a row keeps its side when new data arrive."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from airgate.errors import DataError


def is_holdout(ids: Iterable[object], percent: int) -> npt.NDArray[np.bool_]:
    """Say for each of n ids whether its row is held out; boolean array of shape (n,).

    A row is held out when the first 8 bytes of SHA-256(id as UTF-8), read as a big-endian number, leave a remainder
    below `percent` (0 to 100) when divided by 100. Nothing else matters: no order, no other rows, no seed, no library.
    Ids are text or integers (7 and "7" are the same id); anything else raises DataError, because two ways of writing
    one number would put one row on both sides.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}; allowed: 0 to 100")
    return np.fromiter((_remainder(one) < percent for one in ids), dtype=np.bool_)


def _remainder(one: object) -> int:
    if isinstance(one, bool) or not isinstance(one, str | int | np.integer):
        raise DataError(
            f"holdout: id {one!r} is of type {type(one).__name__}; allowed: text or integers. "
            "Write the id column as text, and give every row one."
        )
    return int.from_bytes(hashlib.sha256(str(one).encode("utf-8", "surrogatepass")).digest()[:8], "big") % 100
