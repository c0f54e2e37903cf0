"""Backups of one schema, and their restore under a running shop.

The rows of all its tables, replaced in one transaction.
"""

from sqlalchemy import Connection, Engine, text

_TABLES = text(
    "SELECT tablename FROM pg_tables WHERE schemaname = :schema AND tablename <> 'alembic_version'"
)


def back_up(admin: Engine, schema: str) -> None:
    """Keep the rows of ``schema`` as they are now."""
    with admin.begin() as connection:
        connection.execute(
            text(f"DROP SCHEMA IF EXISTS {schema}_backup CASCADE; CREATE SCHEMA {schema}_backup")
        )
        for table in _tables(connection, schema):
            connection.execute(
                text(f"CREATE TABLE {schema}_backup.{table} AS TABLE {schema}.{table}")
            )


def restore(admin: Engine, schema: str) -> None:
    """Put the rows back that were kept; what came after them is gone."""
    with admin.begin() as connection:
        # Neither triggers nor foreign keys stand in the way of a restore.
        connection.execute(text("SET LOCAL session_replication_role = 'replica'"))
        tables = _tables(connection, schema)
        connection.execute(
            text(f"TRUNCATE {', '.join(f'{schema}.{table}' for table in tables)} CASCADE")
        )
        for table in tables:
            connection.execute(
                text(f"INSERT INTO {schema}.{table} SELECT * FROM {schema}_backup.{table}")
            )


def _tables(connection: Connection, schema: str) -> list[str]:
    return list(connection.execute(_TABLES, {"schema": schema}).scalars())
