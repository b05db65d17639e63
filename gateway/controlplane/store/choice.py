"""Which store a gateway has: PostgreSQL where there is a URL, else SQLite in the state directory."""

from pathlib import Path
from typing import Final

from gateway.controlplane.store import Store
from gateway.controlplane.store.members import Members
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import StartupError

STORE_FILE: Final = "cutover.db"


def choose(state: Path, url: str | None, password_file: Path | None = None) -> tuple[Store, Members | None]:
    """The store, which is not open yet, and its gateways; None: nobody shares it. Raises StartupError."""
    if url is None:
        return SqliteStore(state.resolve() / STORE_FILE), None
    try:
        from gateway.controlplane.store.postgres import PostgresStore
        from gateway.controlplane.store.postgresmembers import PostgresMembers
    except ModuleNotFoundError as error:
        raise StartupError(
            f"store.url needs {error.name}, which is not installed: pip install 'cutover[postgres]'"
        ) from None
    store = PostgresStore(url, password_file)
    return store, PostgresMembers(store)
