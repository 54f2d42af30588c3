"""`airflow_settings.yaml`, the Astro CLI's file of connections, pools and variables, where there is no Astro CLI."""

import json
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator

from airgate.airflow_api import AirflowApi
from airgate.contracts.base import Contract
from airgate.errors import ConfigError, nearest

FILE = "airflow_settings.yaml"


class Connection(Contract):
    """One connection, with the Astro CLI's names."""

    conn_id: str = Field(pattern=r"^[\w.-]{1,200}$")
    conn_type: str = Field(min_length=1)
    conn_host: str | None = None
    conn_schema: str | None = None
    conn_login: str | None = None
    conn_password: str | None = Field(default=None, repr=False)
    conn_port: int | None = Field(default=None, ge=1, le=65535)
    conn_extra: dict[str, JsonValue] | None = None

    @field_validator("conn_extra", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        """The Astro CLI takes a mapping or its JSON text."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value or "null")
        except json.JSONDecodeError:
            raise ValueError("is no mapping and no JSON text of one") from None

    def body(self) -> dict[str, Any]:
        """The same for Airflow's API."""
        return {"connection_id": self.conn_id, "conn_type": self.conn_type, "host": self.conn_host,
                "schema": self.conn_schema, "login": self.conn_login, "password": self.conn_password,
                "port": self.conn_port, "extra": json.dumps(self.conn_extra) if self.conn_extra else None}


class Pool(Contract):
    """One pool."""

    pool_name: str = Field(min_length=1, max_length=256)
    pool_slot: int = Field(ge=-1, description="-1 is unlimited")
    pool_description: str | None = None

    def body(self) -> dict[str, Any]:
        """The same for Airflow's API. Deferred tasks count: their pods still hold what the pool guards."""
        return {"name": self.pool_name, "slots": self.pool_slot, "description": self.pool_description,
                "include_deferred": True}


class Variable(Contract):
    """One variable."""

    variable_name: str = Field(min_length=1, max_length=250)
    variable_value: JsonValue

    def body(self) -> dict[str, Any]:
        """The same for Airflow's API."""
        return {"key": self.variable_name, "value": self.variable_value}


class Section(Contract):
    """What stands under the key `airflow`. The Astro CLI's template leaves entries empty: those are skipped."""

    connections: list[Connection] = []
    pools: list[Pool] = []
    variables: list[Variable] = []

    @field_validator("connections", "pools", "variables", mode="before")
    @classmethod
    def _without_empty(cls, entries: Any) -> Any:
        if isinstance(entries, list):
            return [kept for entry in entries if (kept := _without_blanks(entry)) != {}]
        return [] if entries is None else entries


class SettingsFile(Contract):
    """The file, whole."""

    airflow: Section = Section()


def load(path: Path) -> SettingsFile:
    """Read and check the file; a missing one holds nothing.

    Raises ConfigError that names the file, the key, what is allowed and the nearest right key.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SettingsFile()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    try:
        settings = SettingsFile.model_validate({} if raw is None else raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from None
    for kind, names in (("connections", [c.conn_id for c in settings.airflow.connections]),
                        ("pools", [p.pool_name for p in settings.airflow.pools]),
                        ("variables", [v.variable_name for v in settings.airflow.variables])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{path}: airflow.{kind} has {', '.join(twice)} twice; keep one entry for each name")
    return settings


def apply(settings: SettingsFile, api: AirflowApi) -> int:
    """Make the running Airflow hold what the file says and give the number of entries; what it does not name stays."""
    entries: list[tuple[str, str, dict[str, Any]]] = [
        *(("connections", c.conn_id, c.body()) for c in settings.airflow.connections),
        *(("pools", p.pool_name, p.body()) for p in settings.airflow.pools),
        *(("variables", v.variable_name, v.body()) for v in settings.airflow.variables),
    ]
    for kind, name, body in entries:
        try:
            api.post(kind, body)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise ConfigError(f"{FILE}: Airflow refused {kind} entry '{name}' ({error.response.status_code}): "
                                  f"{error.response.text[:300]}") from None
            api.patch(f"{kind}/{name}", body)
    return len(entries)


def _without_blanks(entry: Any) -> Any:
    """The template writes `key: ""` or `key:` for what is not set, also inside `conn_extra`."""
    if not isinstance(entry, dict):
        return entry
    kept = {key: _without_blanks(value) for key, value in entry.items()}
    return {key: value for key, value in kept.items() if value not in (None, "", {})}


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):  # an input may be a password
        where = ".".join(str(part) for part in item["loc"]) or "(top)"
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key '{where}'; {nearest(str(item['loc'][-1]), _keys_at(item['loc']))}")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def _keys_at(where: tuple[int | str, ...]) -> list[str]:
    kinds: dict[int | str, type[Contract]] = {"connections": Connection, "pools": Pool, "variables": Variable}
    if len(where) == 1:
        return list(SettingsFile.model_fields)
    return list(Section.model_fields if len(where) == 2 else kinds[where[1]].model_fields)
