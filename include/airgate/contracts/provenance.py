"""What a prediction file says of where it comes from. It is a claim: the audit log confirms it or not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pydantic import Field, ValidationError

from airgate.contracts.base import Contract
from airgate.contracts.step import Digest
from airgate.errors import DataError

# The key of the claim among a Parquet file's key-value metadata (parquet-format, FileMetaData.key_value_metadata).
KEY = "airgate.provenance"
FILE = "predictions.parquet"


class Provenance(Contract):
    """Which run of which version wrote the file. It names no person: the log does, where a name can be erased."""

    model: str
    version: str
    model_digest: Digest
    day: date
    dag_id: str
    run_id: str
    task_id: str
    try_number: int = Field(ge=1)
    map_index: int = -1

    def metadata(self) -> dict[str, str]:
        """The entry for the file's metadata."""
        return {KEY: self.model_dump_json()}


def claim_in(metadata: Mapping[bytes, bytes] | None, where: str) -> Provenance | None:
    """Read the claim from a file's metadata, None where there is none. Raises DataError for one that cannot be read."""
    text = (metadata or {}).get(KEY.encode())
    if text is None:
        return None
    try:
        return Provenance.model_validate_json(text)
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}" for item in items[:3])
        raise DataError(f"{where}: its metadata '{KEY}' cannot be read: {wrong}. It was not written by this release of Airgate; "
                        "name the model (--model) to look the file up by its bytes alone.") from None


def file_name(day: date) -> str:
    """A day's file below the model's folder, as the run's manifest names it."""
    return f"date={day}/{FILE}"
