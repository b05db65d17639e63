"""Brings the tables of a PostgreSQL database up to date, inside a transaction that its caller has begun."""

from importlib.resources import files
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from gateway.controlplane.store import schema
from gateway.errors import StartupError

NEWEST: Final = str(schema.SCHEMA_VERSION)


def migrate(connection: Connection, store: str) -> None:
    """Makes the tables of SCHEMA_VERSION; nobody else may do so meanwhile. Raises StartupError."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(files(f"{__package__}.migrations")))
    found = MigrationContext.configure(connection).get_current_revision()
    if found == NEWEST:
        return
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StartupError(
            f"store {store} was written by a newer Cutover (schema {found}, this one knows {NEWEST}): start that "
            "version, or name another database with store.url"
        )
    command.upgrade(config, NEWEST)
