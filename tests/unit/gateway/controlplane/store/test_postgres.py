"""What is told of failures; the rest: tests/integration/test_postgres_store.py."""

import asyncpg
import pytest

from gateway.controlplane.store.driver import said
from gateway.controlplane.store.postgres import PostgresStore, _remedy, _root
from gateway.errors import StoreFailed


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [
        (asyncpg.InvalidPasswordError("no"), "give the password"),
        (asyncpg.InvalidAuthorizationSpecificationError("no"), "give the password"),
        (asyncpg.InvalidCatalogNameError("no"), "create the database"),
        (asyncpg.InsufficientPrivilegeError("no"), "create tables"),
        (StoreFailed("the stored release of iris cannot be read"), "restore the database from a backup"),
        (ConnectionRefusedError(111, "no"), "start PostgreSQL"),
    ],
)
def test_every_way_not_to_start_has_a_remedy(cause: Exception, remedy: str) -> None:
    assert remedy in _remedy(caused(StoreFailed("store"), cause))


def test_an_unreadable_release_is_told_without_a_cause() -> None:
    assert "restore the database" in _remedy(StoreFailed("the stored release of iris cannot be read"))


def test_what_was_said_first_is_told_in_one_line() -> None:
    first = asyncpg.PostgresError("one\ntwo")
    assert said(_root(caused(StoreFailed("x"), caused(OSError("y"), first)))) == "one"
    assert said(_root(caused(TimeoutError(), KeyError()))) == "the server does not answer"
    assert said(ConnectionResetError()) == "ConnectionResetError"


async def test_a_store_that_was_never_opened_says_so() -> None:
    store = PostgresStore("postgresql://db/x")
    with pytest.raises(StoreFailed, match="store postgresql://db/x is closed"):
        await store.releases()
    await store.close()
