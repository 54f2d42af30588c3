"""The audit store's tables as they are now, for queries. How a database gets there stands in `migrations/`."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects.postgresql import UUID

METADATA = MetaData()
_Long = BigInteger().with_variant(Integer, "sqlite")
_Id = String(36).with_variant(UUID(as_uuid=False), "postgresql")

# The leaves. `entry` is None once its retention is over; `leaf_hash` stays for ever.
EVENTS = Table(
    "airgate_events", METADATA,
    Column("seq", _Long, primary_key=True, autoincrement=False),
    Column("event_id", _Id, nullable=False, unique=True),
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
    Column("entry", LargeBinary),
)
# One row: the tree as the next append needs it.
HEAD = Table(
    "airgate_head", METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", _Long, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)
# Roots of full subtrees of 256, 65,536, ... leaves: `index` counts them from the left. For proofs.
TREE = Table(
    "airgate_tree", METADATA,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("index", _Long, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
)
# Signed notes over the first `size` events.
CHECKPOINTS = Table(
    "airgate_checkpoints", METADATA,
    Column("size", _Long, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("made_at", String(27), nullable=False),
)
# Which anchor has taken which checkpoint, and what it gave as proof.
RECEIPTS = Table(
    "airgate_receipts", METADATA,
    Column("size", _Long, primary_key=True, autoincrement=False),
    Column("anchor", String(200), primary_key=True),
    Column("receipt", LargeBinary, nullable=False),
    Column("taken_at", String(27), nullable=False),
)
# Keys of the people whom the log speaks of. Erasing sets name and key to NULL.
SUBJECTS = Table(
    "airgate_subjects", METADATA,
    Column("id", _Id, primary_key=True),
    Column("name", String(250), unique=True),
    Column("key", LargeBinary(32)),
    Column("hold", String(250)),
    Column("erased_at", String(27)),
)
