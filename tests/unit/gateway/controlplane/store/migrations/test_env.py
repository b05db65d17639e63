"""Alembic finds what it needs of the configuration: a connection in a transaction of somebody else."""

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect

from gateway.controlplane.store import migrations


def test_the_steps_run_in_the_transaction_that_is_given() -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", migrations.__path__[0])
        command.upgrade(config, "head")
        assert connection.in_transaction()
        assert inspect(connection).has_table("releases")
    engine.dispose()
