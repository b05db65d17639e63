"""Peers that vanish without a word: the kernel notices, without a timer of ours."""

import socket
from typing import Final

from gateway.transport.h2.limits import Limits

PROBE_AFTER_S: Final = 120
"""An idle connection is probed after this, well within the patience of NATs and load balancers (350 s and up)..."""
PROBE_EVERY_S: Final = 15
PROBES: Final = 4
"""...so often, and closed when none is answered: its peer's process may be idle, but its host is gone."""


def notice_vanishing(sock: socket.socket, limits: Limits) -> None:
    """TCP keepalive and TCP_USER_TIMEOUT (gRFC A18) for a connection, or for all that a listening socket accepts.

    Linux gives a connection the options of the socket that accepted it. Nothing on other sockets than TCP.

    What we sent must be acknowledged within `keepalive_timeout_s`, but no earlier than `write_timeout_s` gives up a
    peer that does not read: the kernel counts a window of zero, too.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    if limits.keepalive_time_s and limits.write_timeout_s:
        timeout_s = max(limits.keepalive_timeout_s, limits.write_timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))
