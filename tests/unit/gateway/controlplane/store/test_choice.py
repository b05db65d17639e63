"""Which store there is for which settings."""

import sys
from pathlib import Path

import pytest

from gateway.controlplane.store.choice import choose
from gateway.controlplane.store.postgres import PostgresStore
from gateway.controlplane.store.postgresmembers import PostgresMembers
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import StartupError


def test_a_url_means_a_server_and_other_gateways(tmp_path: Path) -> None:
    store, members = choose(tmp_path, "postgresql://db/x")
    assert isinstance(store, PostgresStore)
    assert isinstance(members, PostgresMembers)


def test_without_one_there_is_a_file(tmp_path: Path) -> None:
    store, members = choose(tmp_path, None)
    assert isinstance(store, SqliteStore)
    assert (store._path, members) == (tmp_path / "cutover.db", None)


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("postgres", "postgresmembers", "driver"):
        monkeypatch.delitem(sys.modules, f"gateway.controlplane.store.{module}")
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StartupError, match=r"store.url needs asyncpg, .* pip install 'cutover\[postgres\]'"):
        choose(tmp_path, "postgresql://db/x")
