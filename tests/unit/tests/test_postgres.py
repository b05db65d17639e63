import os
import re
import shutil
import socket
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

import tests.postgres
from tests.postgres import HOST, NOT_FOUND, PostgresFailure, Server, binaries
from tests.serving import processes


def segments() -> dict[int, str]:
    """Ids of the system's shared memory, by the process that made it."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {int(pid): number for _, number, _, _, pid, *_ in map(str.split, lines)}


def family(server: Server) -> list[int]:
    """Process ids of a running server and its children."""
    return [server.pid, *(pid for pid, parent, _ in processes() if parent == server.pid)]


def alive(pids: list[int]) -> list[int]:
    """Those that run; a child of a killed server may wait for whom it was left to."""
    living = []
    for pid in pids:
        with suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
            living += [pid] if state not in "ZX" else []
    return living


async def ended(connection: asyncpg.Connection) -> bool:
    """Whether the server has ended a connection."""
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT 1")
    return bool(connection.is_closed())


async def test_it_answers_through_asyncpg(database: str) -> None:
    connection = await asyncpg.connect(database)
    assert re.match(r"PostgreSQL \d+", await connection.fetchval("SELECT version()"))
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    await connection.close()


async def test_it_answers_through_sqlalchemy(database: str) -> None:
    engine = create_async_engine(make_url(database).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await engine.dispose()


async def test_it_answers_on_its_unix_socket(postgres: Server) -> None:
    connection = await asyncpg.connect(host=str(postgres.folder), port=postgres.port, user="postgres")
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_databases_are_apart(postgres: Server) -> None:
    one, other = postgres.create_database(), postgres.create_database()
    connection = await asyncpg.connect(one)
    await connection.execute("CREATE TABLE only_here (number bigint)")
    elsewhere = await asyncpg.connect(other)
    assert await elsewhere.fetchval("SELECT to_regclass('only_here')") is None
    await elsewhere.close()
    postgres.drop_database(one)
    postgres.drop_database(other)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(one)
    assert await ended(connection)


async def test_what_is_committed_outlives_a_kill(own_postgres: Server) -> None:
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE counted (number bigint)")
    for number in range(20):
        await connection.execute("INSERT INTO counted VALUES ($1)", number)
    await connection.execute("BEGIN; INSERT INTO counted VALUES (-1)")
    running = family(own_postgres)
    assert len(running) > 2
    own_postgres.kill()
    assert alive(running) == []
    assert await ended(connection)
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)
    own_postgres.start()
    again = await asyncpg.connect(url)
    assert [row["number"] for row in await again.fetch("SELECT number FROM counted ORDER BY number")] == [*range(20)]
    await again.close()


def test_it_restarts_where_it_was(own_postgres: Server) -> None:
    url, first = own_postgres.create_database(), own_postgres.pid
    name = make_url(url).database or ""
    assert own_postgres.url(name) == url
    own_postgres.psql("CREATE TABLE kept (number bigint)", name)
    own_postgres.stop()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, own_postgres.port))
    own_postgres.start()
    own_postgres.restart()
    assert own_postgres.pid != first
    assert own_postgres.psql("SELECT count(*), 'kept' FROM kept", name) == "0|kept"


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_of_it_is_left(killed: bool) -> None:
    with Server(fsync=True) as server:
        assert server.psql("SHOW fsync") == "on"
        running = family(server)
        segment = segments()[server.pid]
        if killed:
            server.kill()
            assert segment in segments().values()
    assert alive(running) == []
    assert not server.folder.exists()
    assert segment not in segments().values()
    with pytest.raises(PostgresFailure, match="down"):
        _ = server.pid


async def test_some_users_need_a_password(postgres: Server, database: str) -> None:
    user = postgres.create_user("a secret")
    connection = await asyncpg.connect(database, user=user, password="a secret")
    assert await connection.fetchval("SELECT current_user") == user
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(database, user=user, password="another")


def test_what_the_server_refuses_is_said(postgres: Server) -> None:
    with pytest.raises(PostgresFailure, match='relation "nowhere" does not exist'):
        postgres.psql("SELECT * FROM nowhere")


def test_why_it_does_not_start_is_said() -> None:
    with Server() as server:
        server.stop()
        (server.folder / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
        with pytest.raises(PostgresFailure, match="no_such_setting"):
            server.start()


def test_the_systems_binaries_are_taken_where_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tests.postgres, "find_spec", lambda _: None)
    monkeypatch.setattr(tests.postgres, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PostgresFailure, match=NOT_FOUND):
        binaries()
    for version in ("9.6", "15", "8"):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for name in ("initdb", "pg_ctl", "postgres", "psql"):
            (folder / name).touch(0o755)
    assert binaries() == tmp_path / "15" / "bin"
    (tmp_path / "pg_ctl").symlink_to(tmp_path / "8" / "bin" / "pg_ctl")
    assert binaries() == tmp_path / "8" / "bin"


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root runs the server as himself")
def test_nobody_gets_a_copy_of_what_only_root_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = binaries().parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), closed / name, symlinks=True)
    monkeypatch.setattr(tests.postgres, "binaries", lambda: closed / package.name / "pginstall" / "bin")
    with Server() as server:
        assert server.psql("SELECT 1") == "1"
        assert [arguments[0] for pid, _, arguments in processes() if pid == server.pid] == [
            str(server.folder / package.name / "pginstall" / "bin" / "postgres")
        ]
