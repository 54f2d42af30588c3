"""The audit database's schema, release by release (Alembic). `airgate audit create` brings a database to the newest."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect

from airgate.errors import AuditError

HERE = Path(__file__).parent
VERSION_TABLE = "airgate_audit_version"
# Release 0.1.0 had no migrations, but a table of its own with the number 1.
FIRST = "0001"
_OLD_TABLE = "airgate_schema"
# Any constant will do, as long as every process takes the same lock.
_LOCK = 0x41697247617465

# What the application's role may do. It appends by `airgate_append` and cannot write events, head or tree itself; it cannot
# let contents expire, nor erase a person: that is the owner's.
GRANTS = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    f"GRANT SELECT ON airgate_events, airgate_head, airgate_tree, {VERSION_TABLE} TO {{role}}",
    "GRANT SELECT, INSERT ON airgate_checkpoints, airgate_receipts, airgate_subjects TO {role}",
    "GRANT EXECUTE ON FUNCTION airgate_append TO {role}",
)
# Release 0.1.0 let the role write the tables.
_TAKEN_BACK = ("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON airgate_events, airgate_head FROM {role}",)


def upgrade(connection: Connection) -> None:
    """Make the tables, or bring those of an older release up to date. Call within one write transaction.

    Raises AuditError when the schema is of a newer release than this.
    """
    from alembic import command
    from alembic.script import ScriptDirectory

    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    config = _config(connection)
    known = ScriptDirectory.from_config(config)
    found = version_of(connection)
    if found == known.get_current_head():
        return
    if found is not None and found not in {script.revision for script in known.walk_revisions()}:
        raise AuditError(f"the audit schema has version {found}; this Airgate knows up to {known.get_current_head()}. "
                         "Install the Airgate that belongs to the schema")
    if found is None and inspect(connection).has_table(_OLD_TABLE):
        command.stamp(config, FIRST)
    command.upgrade(config, "head")


def version_of(connection: Connection) -> str | None:
    """Give the schema version found, None where there is no schema or only that of release 0.1.0."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()  # noqa: S608
    return str(found) if found is not None else None


def grant(connection: Connection, role: str) -> None:
    """Give a PostgreSQL role the rights in GRANTS. Raises AuditError on a database without roles."""
    if connection.dialect.name != "postgresql":
        raise AuditError("SQLite has no roles: whoever may write the file may do anything with it. Use PostgreSQL for that")
    quote = connection.dialect.identifier_preparer.quote_identifier
    names = {"role": quote(role), "schema": quote(str(connection.exec_driver_sql("SELECT current_schema()").scalar()))}
    for statement in (*_TAKEN_BACK, *GRANTS):
        connection.exec_driver_sql(statement.format(**names))


def _config(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
