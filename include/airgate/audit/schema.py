"""The audit store's tables, and the triggers that keep everybody but the database's owner from rewriting them."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    inspect,
    select,
)

from airgate.audit.merkle import EMPTY_ROOT
from airgate.errors import AuditError

SCHEMA_VERSION = 1
# Any constant will do, as long as every process takes the same lock.
_CREATE_LOCK = 0x41697247617465

METADATA = MetaData()
# BIGINT would not be SQLite's rowid, and seq would cost a second tree there.
_Long = BigInteger().with_variant(Integer, "sqlite")

EVENTS = Table(
    "airgate_events", METADATA,
    Column("seq", _Long, primary_key=True, autoincrement=False),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("kind", String(40), nullable=False),
    Column("model", String(250)),
    Column("version", String(250)),
    Column("dag_id", String(250)),
    Column("run_id", String(250)),
    Column("task_id", String(250)),
    Column("map_index", Integer),
    Column("try_number", Integer),
    Column("occurred_at", String(27), nullable=False),
    Column("stored_at", String(27), nullable=False),
    Column("leaf_hash", LargeBinary(32), nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Index("airgate_events_by_model", "model", "seq"),
    Index("airgate_events_by_kind", "kind", "seq"),
    Index("airgate_events_by_run", "dag_id", "run_id", "task_id", "seq"),
)
HEAD = Table(
    "airgate_head", METADATA,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("size", _Long, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)
VERSION = Table("airgate_schema", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))

_REFUSAL = "the audit log is append-only"

# REPLACE deletes rows in SQLite without firing a delete trigger, hence the triggers on insert.
_SQLITE_TRIGGERS = [
    *(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{verb} on {table} is refused: {_REFUSAL}'); END"
        for table, verb in (("airgate_events", "UPDATE"), ("airgate_events", "DELETE"), ("airgate_head", "DELETE"))
    ),
    "CREATE TRIGGER airgate_events_no_replace BEFORE INSERT ON airgate_events "
    "WHEN EXISTS (SELECT 1 FROM airgate_events WHERE seq = NEW.seq OR event_id = NEW.event_id) "
    "BEGIN SELECT RAISE(ABORT, 'REPLACE on airgate_events is refused: the audit log is append-only'); END",
    "CREATE TRIGGER airgate_head_no_replace BEFORE INSERT ON airgate_head WHEN EXISTS (SELECT 1 FROM airgate_head) "
    "BEGIN SELECT RAISE(ABORT, 'REPLACE on airgate_head is refused: the audit log is append-only'); END",
    "CREATE TRIGGER airgate_head_grows BEFORE UPDATE ON airgate_head WHEN NEW.size < OLD.size "
    f"BEGIN SELECT RAISE(ABORT, 'UPDATE on airgate_head is refused: {_REFUSAL}'); END",
]

# ENABLE ALWAYS: a session in replica mode skips ordinary triggers.
_POSTGRESQL_TRIGGERS = [
    "CREATE FUNCTION airgate_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    f"RAISE EXCEPTION USING MESSAGE = TG_OP || ' on ' || TG_TABLE_NAME || ' is refused: {_REFUSAL}'; END $$",
    "CREATE TRIGGER airgate_events_fixed BEFORE UPDATE OR DELETE ON airgate_events "
    "FOR EACH ROW EXECUTE FUNCTION airgate_refuse()",
    "CREATE TRIGGER airgate_events_kept BEFORE TRUNCATE ON airgate_events EXECUTE FUNCTION airgate_refuse()",
    "CREATE TRIGGER airgate_head_kept BEFORE DELETE ON airgate_head FOR EACH ROW EXECUTE FUNCTION airgate_refuse()",
    "CREATE TRIGGER airgate_head_not_emptied BEFORE TRUNCATE ON airgate_head EXECUTE FUNCTION airgate_refuse()",
    "CREATE TRIGGER airgate_head_grows BEFORE UPDATE ON airgate_head FOR EACH ROW "
    "WHEN (NEW.size < OLD.size) EXECUTE FUNCTION airgate_refuse()",
    *(
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
        for table, trigger in (
            ("airgate_events", "airgate_events_fixed"), ("airgate_events", "airgate_events_kept"),
            ("airgate_head", "airgate_head_kept"), ("airgate_head", "airgate_head_not_emptied"),
            ("airgate_head", "airgate_head_grows"),
        )
    ),
]
TRIGGERS = {"sqlite": _SQLITE_TRIGGERS, "postgresql": _POSTGRESQL_TRIGGERS}


def version_of(connection: Connection) -> int | None:
    """Give the schema version found, None where there is no schema."""
    if not inspect(connection).has_table(VERSION.name):
        return None
    return connection.execute(select(VERSION.c.version)).scalar()


def create(connection: Connection) -> None:
    """Make tables, triggers and the empty tree, unless they are there. Call within one write transaction.

    Raises AuditError when the schema is of another version.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CREATE_LOCK})")
    found = version_of(connection)
    if found == SCHEMA_VERSION:
        return
    if found is not None:
        raise AuditError(
            f"the audit schema has version {found}; this Airgate writes version {SCHEMA_VERSION}. "
            "Install the Airgate that belongs to the schema"
        )
    METADATA.create_all(connection, checkfirst=False)
    for statement in TRIGGERS[dialect]:
        connection.exec_driver_sql(statement)
    connection.execute(HEAD.insert().values(id=1, size=0, root=EMPTY_ROOT, frontier=b""))
    connection.execute(VERSION.insert().values(version=SCHEMA_VERSION))
