"""The steps, on SQLite, which knows what they use; on PostgreSQL: tests/integration/test_postgres_store.py."""

import pytest
from sqlalchemy import create_engine, inspect, text

from gateway.controlplane.store import schema
from gateway.controlplane.store.migrate import NEWEST, migrate
from gateway.errors import StartupError


def test_tables_are_made_once_and_a_newer_schema_is_refused() -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        for _ in range(2):
            migrate(connection, "here")
        tables = set(inspect(connection).get_table_names())
        assert tables == set(schema.metadata.tables) - {schema.schema.name} | {"alembic_version"}
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == NEWEST
        connection.execute(text("UPDATE alembic_version SET version_num = '99'"))
        with pytest.raises(StartupError, match=r"store here was written by a newer Cutover \(schema 99"):
            migrate(connection, "here")
    engine.dispose()
