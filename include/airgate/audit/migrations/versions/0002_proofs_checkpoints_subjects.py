"""Stored subtrees, checkpoints, keys of people; entries may expire; on PostgreSQL, one function appends.

The statements stand in ../sql, one file a database.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from alembic import op
from sqlalchemy import Connection

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TILE = 8  # levels between two that are stored: 256, 65,536, ... leaves


def upgrade() -> None:
    """Change the tables, then store the subtrees of the events that are there."""
    connection = op.get_bind()
    dialect = connection.dialect.name
    text = (Path(__file__).parents[1] / "sql" / f"{revision}_{dialect}.sql").read_text(encoding="utf-8")
    if dialect == "postgresql":
        quote = connection.dialect.identifier_preparer.quote_identifier
        schema = quote(str(connection.exec_driver_sql("SELECT current_schema()").scalar()))
        connection.exec_driver_sql(text.replace("@schema@", schema))
    else:
        for statement in _statements(text):
            connection.exec_driver_sql(statement)
    _store_subtrees(connection)


def _statements(text: str) -> Iterator[str]:
    """Take SQLite's statements apart: a trigger has semicolons of its own."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _store_subtrees(connection: Connection) -> None:
    from airgate.audit.merkle import Frontier
    from airgate.audit.schema import TREE

    tree = Frontier()
    leaves = connection.exec_driver_sql("SELECT leaf_hash FROM airgate_events ORDER BY seq")
    nodes = [node for row in leaves for node in tree.append(bytes(row[0])) if node[0] % _TILE == 0]
    if nodes:
        connection.execute(TREE.insert(), [dict(zip(("level", "index", "hash"), node, strict=True)) for node in nodes])
