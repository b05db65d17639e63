import getpass
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from gateway.cli.admin import Admin, actor
from gateway.cli.failure import Exit, Failure
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import FakeAdmin, Shell


@contextmanager
def peer(answer: bytes | None) -> Iterator[str]:
    """A TCP server that is no gateway: says `answer` and hangs up, or never says anything (None)."""
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if answer is None:
                held.append(connection)
                continue
            with connection:
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def test_a_closed_port_is_out_of_reach(cutover: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    said = cutover.local("status", "--admin", address)
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith(f"cutover: cannot reach the gateway at {address} (")
    assert said.err.count("\n") == 1


def test_a_host_that_does_not_exist_is_out_of_reach(cutover: Shell) -> None:
    assert cutover.local("status", "--admin", "nowhere.invalid:8003").code == Exit.UNREACHABLE


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", b""])
def test_something_else_that_listens_is_no_gateway(cutover: Shell, answer: bytes) -> None:
    with peer(answer) as address:
        assert cutover.local("status", "--admin", address).code == Exit.UNREACHABLE


def test_silence_ends_by_the_timeout_and_says_how_to_repeat_a_change(cutover: Shell) -> None:
    with peer(None) as address:
        said = cutover.local("status", "--admin", address, "--timeout", "0.1")
        assert (said.code, said.err) == (3, f"cutover: no answer from {address} within 0.1 s (--timeout)\n")
        with Admin(address, 0.1) as admin, pytest.raises(Failure, match="repeat it with --request-id mine"):
            admin.change("Flip", pb.FlipRequest(request_id="mine"))


def test_another_grpc_server_is_named(cutover: Shell) -> None:
    cutover.admin.error = (grpc.StatusCode.UNIMPLEMENTED, "no such method")
    said = cutover("flip", "digits")
    assert (said.code, "is it the admin port?" in said.err) == (3, True)


def test_the_address_may_come_from_the_environment(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_ADMIN", cutover.admin.address)
    assert cutover.local("status").code == 0


@pytest.mark.parametrize(("limit", "found"), [(2, 2), (7, 7), (None, 8), (100, 8)])
def test_events_are_read_page_by_page(admin: FakeAdmin, limit: int | None, found: int) -> None:
    admin.events = [pb.AuditEvent(sequence=number) for number in range(8, 0, -1)]
    with Admin(admin.address, 10) as client:
        assert [event.sequence for event in client.events(None, limit)] == list(range(8, 8 - found, -1))


def test_the_actor_fits_into_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "jürgen\n")
    monkeypatch.setattr(socket, "gethostname", lambda: "büro")
    assert actor() == "j?rgen?@b?ro"


def test_an_actor_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("no such uid")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert actor().partition("@")[0].isdigit()
