"""Alembic runs this file for every command; the connection, and the transaction it is in, are the caller's."""

from alembic import context

from airgate.audit.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
