"""A stand-in for a proxy process: speaks the link, listens on its port, serves nobody.

Its first argument says how it behaves: `good`; `deaf` (applies nothing after the first snapshot); `broken` (fails);
`garbage` (sends what nobody can read, once it listens); `mute` (hangs before it says a word); `asking` (sends an errand
whenever something is published after the first snapshot, and reports the answer as the name of a queue).
"""

import os
import signal
import socket
import sys
import threading

from gateway.routing import link
from gateway.routing.outcome import Report
from gateway.routing.snapshot import Snapshot
from gateway.routing.update import Update

EXTRAS = {"garbage": b"\x03\0\0\0abc", "asking": link.encode(link.Errand(7, "Echo", b"hello", "ada"))}
"""What a manner sends whenever something is published after the first snapshot."""


def reported(asked: link.Survey | link.ErrandDone | link.Lease) -> Report:
    """How the stand-in lets the test see what it was sent."""
    if isinstance(asked, link.Lease):
        return Report(queued={"lease": -1 if asked.until_s is None else int(asked.until_s)})
    if isinstance(asked, link.Survey):
        return Report(connections=1, answers=asked.number)
    return Report(queued={asked.message.decode(): asked.number})


def main() -> int:
    """Plays the proxy until told to drain."""
    manner, _, control, _, index = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if manner == "mute":
        threading.Event().wait()
    server = socket.socket()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(control)
    connection.sendall(link.encode(link.Hello(int(index), os.getpid())))
    frames = link.Frames()
    while data := connection.recv(1 << 16):
        for body in frames.feed(data):
            match link.from_control.decode(body):
                case link.Configure(host, port):
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    server.bind((host, port))
                case link.Publish() if manner == "broken":  # after all that is sent at first, as the real one does
                    connection.sendall(link.encode(link.ProxyFailed("no luck today")))
                    return 1
                case link.Publish(Snapshot(epoch)) | Update(epoch=epoch):
                    if not server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        server.listen()
                        connection.sendall(link.encode(link.Listening(server.getsockname()[1])))
                    elif manner == "deaf":
                        continue
                    else:
                        connection.sendall(EXTRAS.get(manner, b""))
                    connection.sendall(link.encode(link.Applied(epoch)))
                    connection.sendall(link.encode(Report(connections=1)))
                case link.Survey() | link.ErrandDone() | link.Lease() as asked if manner != "deaf":
                    connection.sendall(link.encode(reported(asked)))
                case link.Drain():
                    return 0
    threading.Event().wait()  # without a link it serves on
    return 0


if __name__ == "__main__":
    sys.exit(main())
