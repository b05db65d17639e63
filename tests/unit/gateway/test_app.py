import asyncio
import signal
import socket
from pathlib import Path

import pytest

from gateway.app import Gateway, _unless, serve
from gateway.config import Config, load
from gateway.config.schema import Store
from gateway.controlplane.lifetime import Lifetime
from gateway.controlplane.store.choice import STORE_FILE
from gateway.errors import StartupError
from tests.certificates import DAY, Authority


def config(tmp_path: Path, **server: object) -> Config:
    """Free ports, a models directory and a state directory, unless told otherwise."""
    (tmp_path / "models").mkdir(exist_ok=True)
    given = {"models": tmp_path / "models", "state": tmp_path / "state"}
    ports = dict.fromkeys(("grpc_port", "http_port", "admin_port"), 0)
    return load(None, {f"server.{key}": value for key, value in {**given, **ports, **server}.items()})


async def refused(given: Config) -> str:
    """The one line with which the start ends."""
    with pytest.raises(StartupError) as raised:
        await serve(given)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("option", ["grpc-port", "http-port", "admin-port"])
async def test_a_taken_port_ends_the_start_before_anything_is_started(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = await refused(config(tmp_path, **{option.replace("-", "_"): port}))
    assert said == f"port {port} on 127.0.0.1 is taken; choose another with --{option}"


async def test_what_the_models_and_state_directories_must_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "no models directory; give the folder" in await refused(config(tmp_path, models=None))
    assert "does not exist" in await refused(config(tmp_path, models=tmp_path / "nowhere"))
    assert "is a file" in await refused(config(tmp_path, models=tmp_path / "file"))
    said = await refused(config(tmp_path, state=tmp_path / "file"))
    assert "make it writable or choose another with --state" in said


async def test_the_folder_of_the_traces_must_be_there(tmp_path: Path) -> None:
    given = config(tmp_path)
    triton = given.triton.model_copy(update={"trace_file": tmp_path / "nowhere" / "t.json"})
    said = await refused(given.model_copy(update={"triton": triton}))
    assert "nowhere/t.json does not exist or cannot be written to; create it" in said


async def test_what_certificates_and_the_unix_socket_must_be(tmp_path: Path) -> None:
    authority = Authority()
    good = authority.server().write(tmp_path / "good")
    old = authority.server(ends_in=-DAY).write(tmp_path / "old")
    for (certificate, key), said in (
        ((tmp_path / "no", good[1]), "does not exist; correct the path (--tls-cert, --tls-key, --tls-client-ca)"),
        ((good[0], old[1]), "does not belong to certificate"),
        (old, "expired at"),
    ):
        given = config(tmp_path)
        tls = given.tls.model_copy(update={"certificate": certificate, "key": key})
        assert said in await refused(given.model_copy(update={"tls": tls}))
    (tmp_path / "file").write_text("")
    assert "is no socket; choose another path" in await refused(config(tmp_path, grpc_socket=tmp_path / "file"))


async def test_a_second_gateway_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with Lifetime(tmp_path / "state"):
        assert "is in use by the gateway with pid" in await refused(config(tmp_path))


async def test_a_gateway_without_models_starts_and_stops_cleanly(tmp_path: Path) -> None:
    gateway = Gateway(config(tmp_path))
    try:
        await gateway.start()
        assert ready(tmp_path)
    finally:
        await gateway.stop()
    assert not ready(tmp_path)


async def test_releases_are_kept_in_the_database_that_the_settings_name(tmp_path: Path, database: str) -> None:
    given = config(tmp_path)
    gateway = Gateway(given.model_copy(update={"store": Store(url=database)}))
    try:
        await gateway.start()
        assert ready(tmp_path)
        assert not (tmp_path / "state" / STORE_FILE).exists()
    finally:
        await gateway.stop()
    said = await refused(given.model_copy(update={"store": Store(url=f"{database}_not")}))
    assert "does not exist; create the database, or correct store.url" in said


async def test_a_signal_during_the_start_stops_it(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, signal.raise_signal, signal.SIGTERM)
    assert await serve(config(tmp_path)) == 0
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


async def test_an_event_cancels_the_work_or_is_told_and_waits_for_it() -> None:
    event, finished = asyncio.Event(), []

    async def work() -> None:
        await event.wait()
        finished.append("work")

    event.set()
    await _unless(asyncio.Event(), work())
    assert finished == ["work"]
    await _unless(event, asyncio.sleep(3600, None))
    told = asyncio.Event()
    await _unless(event, asyncio.wait_for(_as_work(told), 10), on_event=told.set)


def ready(tmp_path: Path) -> bool:
    return (tmp_path / "state" / "ready.json").exists()


async def _as_work(told: asyncio.Event) -> None:
    await told.wait()
