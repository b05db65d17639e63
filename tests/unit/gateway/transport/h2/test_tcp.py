import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.transport.h2.limits import Limits
from gateway.transport.h2.tcp import PROBE_AFTER_S, PROBE_EVERY_S, PROBES, notice_vanishing


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def sock(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with closing(socket.socket(request.param)) as made:
        yield made


def options(sock: socket.socket) -> tuple[int, int, int, int]:
    """SO_KEEPALIVE, idle time, interval, probes."""
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    idle_s, every_s, probes = (sock.getsockopt(socket.IPPROTO_TCP, name) for name in names)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), idle_s, every_s, probes


def user_timeout_ms(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def test_the_kernel_looks_after_the_peer(sock: socket.socket) -> None:
    notice_vanishing(sock, Limits())
    assert options(sock) == (1, PROBE_AFTER_S, PROBE_EVERY_S, PROBES)
    assert user_timeout_ms(sock) == 30_000


@pytest.mark.parametrize(
    ("limits", "expected_ms"),
    [
        (Limits(write_timeout_s=5.0), 20_000),
        (Limits(write_timeout_s=60.0), 60_000),
        (Limits(write_timeout_s=0.0), 0),  # a client may leave its replies unread for ever
        (Limits(keepalive_time_s=0.0), 0),
    ],
)
def test_nobody_is_cut_before_the_timeouts_say_so(sock: socket.socket, limits: Limits, expected_ms: int) -> None:
    notice_vanishing(sock, limits)
    assert user_timeout_ms(sock) == expected_ms


def test_other_sockets_have_nothing_to_vanish() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        notice_vanishing(ours, Limits())
        assert not ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_accepted_connections_have_it_from_the_listening_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        notice_vanishing(listening, Limits())
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert options(accepted) == options(listening)
            assert user_timeout_ms(accepted) == user_timeout_ms(listening) > 0
