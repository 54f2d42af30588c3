"""The tables of release 0.1.0, as they were."""

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, MetaData, String, Table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LONG = BigInteger().with_variant(Integer, "sqlite")
_EMPTY_ROOT = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def upgrade() -> None:
    """Make them. The triggers of that release are left to the next step, which replaces them."""
    metadata = MetaData()
    Table(
        "airgate_events", metadata,
        Column("seq", _LONG, primary_key=True, autoincrement=False),
        Column("event_id", String(36), nullable=False, unique=True),
        Column("kind", String(40), nullable=False),
        *(Column(name, String(250)) for name in ("model", "version", "dag_id", "run_id", "task_id")),
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
    head = Table(
        "airgate_head", metadata,
        Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        Column("size", _LONG, nullable=False),
        Column("root", LargeBinary(32), nullable=False),
        Column("frontier", LargeBinary, nullable=False),
    )
    version = Table("airgate_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))
    connection = op.get_bind()
    metadata.create_all(connection, checkfirst=False)
    connection.execute(head.insert().values(id=1, size=0, root=_EMPTY_ROOT, frontier=b""))
    connection.execute(version.insert().values(version=1))
