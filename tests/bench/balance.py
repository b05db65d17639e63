"""How evenly the kernel spreads connections over proxies that share a port (SO_REUSEPORT).

usage: python -m tests.bench.balance [ROUNDS]     (default: 100)

Each round opens the connections anew, from this machine, to listening sockets made as proxies make theirs.
"""

import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from statistics import median

from gateway.dataplane.proxy import bound
from tests.bench.machine import machine

CONNECTIONS = (4, 16, 64, 512)
PROXIES = (2, 3, 4)
ROUNDS = 100


@dataclass(frozen=True)
class Balance:
    """Over all rounds: what the busiest proxy had in multiples of its fair share, and how often one had nothing."""

    usual: float
    worst_of_20: float
    idle: float


def balance(rounds: Sequence[Sequence[int]]) -> Balance:
    """What counts of connections by proxy, one sequence per round, say."""
    over = sorted(max(counts) * len(counts) / sum(counts) for counts in rounds)
    return Balance(
        usual=median(over),
        worst_of_20=over[len(over) * 19 // 20],
        idle=sum(min(counts) == 0 for counts in rounds) / len(rounds),
    )


def spread(listeners: Sequence[socket.socket], connections: int) -> list[int]:
    """Opens the connections, counts them by listening socket, and closes them."""
    with ExitStack() as held:
        for _ in range(connections):
            held.enter_context(socket.create_connection(listeners[0].getsockname()))
        return [_accept_all(listener) for listener in listeners]


def _accept_all(listener: socket.socket) -> int:
    """How many connections waited; they are closed. A handshake has ended before the client hears of it."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def measure(proxies: int, connections: int, rounds: int) -> list[list[int]]:
    """Connections by proxy, for each round."""
    with ExitStack() as held:
        first = held.enter_context(bound("127.0.0.1", 0))
        port = first.getsockname()[1]
        listeners = [first, *(held.enter_context(bound("127.0.0.1", port)) for _ in range(proxies - 1))]
        for listener in listeners:
            listener.listen(max(CONNECTIONS))
        return [spread(listeners, connections) for _ in range(rounds)]


def main() -> None:
    """Prints one line for each number of proxies and connections."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    _say(f"{machine()}; {rounds} rounds each")
    _say("busiest: connections of the busiest proxy, in multiples of its fair share; usually, and in 1 of 20 rounds")
    _say("proxies  connections  usually  1 of 20  a proxy has none")
    for proxies in PROXIES:
        for connections in CONNECTIONS:
            found = balance(measure(proxies, connections, rounds))
            numbers = f"{found.usual:>7.2f}  {found.worst_of_20:>7.2f}  {found.idle:>16.0%}"
            _say(f"{proxies:>7}  {connections:>11}  {numbers}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
