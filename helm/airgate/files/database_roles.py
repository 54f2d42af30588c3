"""Make PostgreSQL's roles and databases as the Secrets' URLs name them. A repeat changes passwords to the Secrets' and no more.

Each URL's role gets its own database and connects to no other. The log's writer gets no database: `airgate audit create
--writer` grants it what it needs in the owner's.
"""

import os
import sys

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import parse_dsn


def main():
    """Read ADMIN_URL, AUDIT_OWNER_URL, AUDIT_WRITER_URL and MLFLOW_URL; say what was made."""
    admin = psycopg2.connect(plain(os.environ["ADMIN_URL"]))
    admin.autocommit = True  # CREATE DATABASE allows no transaction
    owner, writer, mlflow = (parse_dsn(plain(os.environ[name])) for name in ("AUDIT_OWNER_URL", "AUDIT_WRITER_URL", "MLFLOW_URL"))
    if len({owner["user"], writer["user"], mlflow["user"]}) < 3 or owner["dbname"] == mlflow["dbname"]:
        sys.exit("the audit log's owner, its writer and MLflow must be three roles, the log and MLflow two databases: "
                 "look at the Secrets airgate-audit-owner, airgate-airflow and airgate-mlflow")
    with admin.cursor() as cursor:
        for place in (owner, writer, mlflow):
            make_role(cursor, place)
        for place, guests in ((owner, [writer["user"]]), (mlflow, [])):
            make_database(cursor, place, guests)
    admin.close()


def plain(url):
    """The URL as PostgreSQL knows it: without SQLAlchemy's driver."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.split('+')[0]}://{rest}"


def make_role(cursor, place):
    """A role that may log in, with the URL's password, and nothing else."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [place["user"]])
    verb = "ALTER" if cursor.fetchone() else "CREATE"
    statement = sql.SQL(verb + " ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}")
    cursor.execute(statement.format(sql.Identifier(place["user"]), sql.Literal(place.get("password", ""))))
    print(f"role {place['user']}: {verb.lower()}")  # noqa: T201


def make_database(cursor, place, guests):
    """A database that the URL's role owns, closed to all but `guests`."""
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [place["dbname"]])
    names = {"database": sql.Identifier(place["dbname"]), "owner": sql.Identifier(place["user"])}
    if not cursor.fetchone():
        # Whoever gives a database away must belong to the role that gets it; a superuser does anyway.
        cursor.execute(sql.SQL("GRANT {owner} TO CURRENT_USER").format(**names))
        cursor.execute(sql.SQL("CREATE DATABASE {database} OWNER {owner}").format(**names))
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))
    for guest in guests:
        cursor.execute(sql.SQL("GRANT CONNECT ON DATABASE {database} TO {guest}").format(guest=sql.Identifier(guest), **names))
    print(f"database {place['dbname']}: of {place['user']}")  # noqa: T201


if __name__ == "__main__":
    main()
