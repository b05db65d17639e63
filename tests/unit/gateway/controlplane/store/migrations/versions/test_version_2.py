"""The first step can be taken back."""

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, inspect

from gateway.controlplane.store.migrations.versions import version_2


def test_there_and_back() -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        version_2.upgrade()
        assert len(inspect(connection).get_table_names()) == 7
        version_2.downgrade()
        assert inspect(connection).get_table_names() == []
    engine.dispose()
