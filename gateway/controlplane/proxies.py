"""The proxy processes: started, watched, replaced; and how all of them come to serve the same snapshot.

A snapshot counts as published when no proxy can admit a request under an older one: each has applied it, or has ended,
or has not been given any snapshot yet (it gets the newest when it connects). A proxy that does not apply it in time is
fenced: killed, then replaced.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from gateway import __version__
from gateway.controlplane.lifetime import PROXY
from gateway.controlplane.linkserver import ProxyLink
from gateway.controlplane.ports import Applied
from gateway.controlplane.processes import Child, Launcher, describe_exit
from gateway.controlplane.restarts import Restarts
from gateway.controlplane.settings import ProxySettings, share
from gateway.controlplane.surveys import Surveys
from gateway.controlplane.tasks import Bell, Tasks
from gateway.errors import StartupError
from gateway.routing import link
from gateway.routing.outcome import Report, Trace
from gateway.routing.snapshot import Snapshot
from gateway.routing.update import difference

log = structlog.get_logger()

WATCH_S: Final = 1.0
SILENT_LIMIT: Final = 15
"""A listening proxy reports every second; after so many looks without a word it hangs and is replaced."""
LAST_WORDS_S: Final = 1.0
"""How long the link of a process that has ended may take to end, too."""
KILL_GRACE_S: Final = 2.0
START_LIMIT: Final = 60
"""A proxy that was started and does not listen after so many looks is replaced, too."""
STARTUP_CRASHES: Final = 3
"""A proxy that ends this often before it ever listened is not going to."""


class Reports(Protocol):
    """Where proxies' reports go (`gateway.observe.statistics.Statistics`)."""

    def fold(self, proxy: int, report: Report) -> None: ...
    def proxy_gone(self, proxy: int) -> None: ...


class Slot:
    """One place for a proxy; its process changes."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Child | None = None
        self.link: ProxyLink | None = None
        self.told = False
        """It was given a snapshot, so it may be serving."""
        self.applied = 0
        self.port = 0
        """0 until it listens."""
        self.listening_since_s = 0.0
        self.silent = 0
        self.crashes = 0
        self.error = ""
        """Why it does not listen, in the words of the last process that found any."""

    def serves_at_least(self, epoch: int) -> bool:
        """It cannot admit a request under an older epoch."""
        return self.child is None or not self.told or self.applied >= epoch

    def clear(self) -> None:
        """The process ended."""
        if self.link:
            self.link.close()
        self.child = self.link = None
        self.told = False
        self.applied = self.port = self.silent = 0


class Proxies:
    """All proxies of this gateway."""

    def __init__(
        self, settings: ProxySettings, launcher: Launcher, command: Sequence[str], run_dir: Path, reports: Reports
    ) -> None:
        self.client_socket = -1
        """File number of a socket that listens for clients; every proxy inherits it. -1: none."""
        self._settings = settings
        self._launcher = launcher
        self._command = command
        self._socket = run_dir / "control.sock"
        self._reports = reports
        self._slots = [Slot(index) for index in range(settings.count)]
        self._snapshot = Snapshot(epoch=0)
        self._bell = Bell()
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None
        self._stopping = False
        self.restarts = 0
        self.on_hung: Callable[[str], None] = lambda _: None
        """Hears the address of a worker that takes work and gives no answer."""
        self.on_errand: Callable[[link.Errand, Callable[[link.ErrandDone], None]], None] = lambda *_: None
        """Hears what a proxy asks for a client, and whom to answer."""
        self.on_traces: Callable[[Sequence[Trace]], None] = lambda _: None
        """Hears the traces in a report."""
        self._surveys = Surveys(settings.ack_timeout_s)
        self._standing: dict[type, bytes] = {}
        """Messages that a new proxy gets, too: the newest of each type, encoded."""

    @property
    def listening(self) -> int:
        """Proxies that accept connections."""
        return sum(bool(slot.port) for slot in self._slots)

    @property
    def all_listening(self) -> bool:
        return self.listening == len(self._slots)

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""
        return self._snapshot

    async def start(self, timeout_s: float) -> None:
        """Starts them and returns when all listen. Raises StartupError when one cannot."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: ProxyLink(self._heard, self._lost), self._socket)
        for slot in self._slots:
            self._tasks.start(self._keep_running(slot), f"proxy {slot.index}")
        self._tasks.start(self._watch(), "proxy watch")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.until(lambda: self.all_listening or bool(self._startup_error)), timeout_s)
        if not self.all_listening:
            raise StartupError(self._startup_error or f"the proxies do not listen after {timeout_s:.0f} s; see the log")

    def send(self, snapshot: Snapshot) -> int:
        """Gives the snapshot the next epoch, which is returned, and sends it to every proxy.

        Enough where only pools have changed: then a proxy that is late does no harm, and must not be killed for it. Nor
        for what clients ask for; `survey` tells who has taken it in.
        """
        before, epoch = self._snapshot, self._snapshot.epoch + 1
        self._snapshot = msgspec.structs.replace(snapshot, epoch=epoch)
        message = link.encode(difference(before, self._snapshot))  # whoever was told anything knows what was before
        for slot in self._slots:
            if slot.told and slot.link:
                slot.link.send(message)
        return epoch

    async def publish(self, snapshot: Snapshot) -> tuple[Applied, ...]:
        """Sends the snapshot and returns when no proxy admits a request under an older one: which did what, by index.

        Runs without a pause up to the sending, so snapshots built in order are sent in order.
        """
        start_s = time.monotonic()
        epoch = self.send(snapshot)
        done: dict[int, Applied] = {}

        def everywhere() -> bool:
            for slot in self._slots:
                if slot.applied >= epoch and slot.index not in done:
                    done[slot.index] = Applied(slot.index, _since_ms(start_s))
            return all(slot.serves_at_least(epoch) for slot in self._slots)

        try:
            await asyncio.wait_for(self._bell.until(everywhere), self._settings.ack_timeout_s)
        except TimeoutError:
            late = [slot for slot in self._slots if not slot.serves_at_least(epoch)]
            await asyncio.gather(*(self._fence(slot, f"did not apply epoch {epoch} in time") for slot in late))
            done |= {slot.index: Applied(slot.index, _since_ms(start_s), fenced=True) for slot in late}
        return tuple(done[index] for index in sorted(done))

    async def survey(self) -> None:
        """Returns when every proxy has reported what it had counted up to now, and taken in what it was sent.

        Raises NotReady when one does not report in time.
        """
        await self._surveys.ask()

    async def tell(self, message: link.FromControl) -> None:
        """Sends a message to every proxy, and to every new one; returns when all have taken it in, as `survey` does.

        The newest message of a type stands.
        """
        self._stand(message)
        await self.survey()

    def _stand(self, message: link.FromControl) -> None:
        """Sends a message to every proxy; a new one gets the newest of its type."""
        self._standing[type(message)] = encoded = link.encode(message)
        for slot in self._slots:
            if slot.told and slot.link:
                slot.link.send(encoded)

    def lease(self, valid_until_s: float | None) -> None:
        """From that time on (`time.monotonic()`) every proxy, also a new one, refuses requests, until it hears another
        time; None: never.

        A proxy that does not hear of a renewal stops when it was told to: others may count on what was promised. So
        renew only once what the store says has been published.
        """
        self._stand(link.Lease(valid_until_s))

    async def drain(self) -> None:
        """Every proxy stops accepting, answers what is in flight within the grace, and ends."""
        self._stopping = True
        grace_s = self._settings.drain_grace_s
        message = link.encode(link.Drain(round(grace_s * 1000)))
        for slot in self._slots:
            if slot.link and slot.told:
                slot.link.send(message)
            elif slot.child:
                await slot.child.stop(KILL_GRACE_S)
        gone = self._bell.until(lambda: all(slot.child is None for slot in self._slots))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone, grace_s + KILL_GRACE_S)
        await self.close()

    async def close(self) -> None:
        """Ends every proxy at once."""
        self._stopping = True
        children = [slot.child for slot in self._slots if slot.child]
        await asyncio.gather(*(child.kill() for child in children))
        await self._tasks.close()
        for slot in self._slots:
            slot.clear()
        if self._server:
            self._server.close()

    @property
    def _startup_error(self) -> str:
        return next((slot.error for slot in self._slots if slot.error and slot.crashes >= STARTUP_CRASHES), "")

    async def _keep_running(self, slot: Slot) -> None:
        history = Restarts()
        while not self._stopping:
            try:
                ended = await self._live(slot)
            except OSError as error:
                ended = f"could not be started: {error.strerror or error}"
            healthy_s = time.monotonic() - slot.listening_since_s if slot.port else 0.0
            slot.crashes += 1
            slot.error = slot.error or f"proxy {slot.index} {ended}"
            slot.clear()
            self._reports.proxy_gone(slot.index)
            self._bell.ring()
            await self._pause(slot, ended, history.crashed(time.monotonic(), healthy_s), looping=history.looping)

    async def _pause(self, slot: Slot, ended: str, delay_s: float, *, looping: bool) -> None:
        """Waits until the next process may be started in the place of one that was not told to end."""
        if not self._stopping:
            log.error("proxy ended", proxy=slot.index, how=ended, restart_in_s=delay_s, crash_loop=looping)
            await asyncio.sleep(delay_s)
            self.restarts += 1

    async def _live(self, slot: Slot) -> str:
        """Runs one process to its end; returns how it ended."""
        command = [*self._command, "--control", str(self._socket), "--index", str(slot.index)]
        inherited = [self.client_socket] if self.client_socket >= 0 else []
        for number in inherited:
            command += ["--client-socket", str(number)]
        slot.child = await self._launcher.start(PROXY, command, lambda line: _say(slot, line), inherited)
        try:
            code = await slot.child.wait()
            await self._hear_out(slot)
            last = slot.child.last_line
            return describe_exit(code) + (f", last words: {last}" if last and code > 0 else "")
        finally:
            if slot.child.running:  # cancelled
                await slot.child.kill()

    async def _hear_out(self, slot: Slot) -> None:
        """What a process said last may be read after its end is known: its link ends behind it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.until(lambda: slot.link is None), LAST_WORDS_S)

    def _heard(self, source: ProxyLink, message: link.FromProxy) -> None:
        if isinstance(message, link.Hello):
            self._welcome(source, message)
            return
        slot = next((slot for slot in self._slots if slot.link is source), None)
        if slot is None:
            return
        slot.silent = 0
        match message:
            case link.Applied(epoch):
                slot.applied = max(slot.applied, epoch)
                self._bell.ring()
            case link.Listening(port):
                slot.port, slot.listening_since_s, slot.error = port, time.monotonic(), ""
                log.info("proxy listening", proxy=slot.index, host=self._settings.host, port=port)
                self._bell.ring()
            case link.ProxyFailed(error):
                slot.error = f"proxy {slot.index}: {error}"
                log.error("proxy failed", proxy=slot.index, error=error)
            case link.Hung(address):
                self.on_hung(address)
            case link.Errand():
                self.on_errand(message, lambda answer: source.send(link.encode(answer)))
            case Report():
                self._reports.fold(slot.index, message)
                if message.traces:
                    self.on_traces(message.traces)
                self._surveys.answered(source, message.answers)

    def _welcome(self, source: ProxyLink, hello: link.Hello) -> None:
        """Only the process we started for this place is served."""
        slot = next((slot for slot in self._slots if slot.child and slot.child.pid == hello.pid), None)
        if slot is None or slot.index != hello.index or self._stopping:
            log.warning("a stranger at the control socket was turned away", pid=hello.pid)
            source.close()
            return
        if slot.link:
            slot.link.close()
        slot.link, slot.told = source, True
        self._surveys.joined(source, slot.index)
        source.send(link.encode(self._configure(slot.index)))
        for message in self._standing.values():
            source.send(message)
        source.send(link.encode(link.Publish(self._snapshot)))

    def _configure(self, index: int) -> link.Configure:
        settings = self._settings
        part = partial(share, index=index, count=settings.count)
        return link.Configure(
            host=settings.host,
            port=settings.port,
            max_message_bytes=settings.max_message_bytes,
            max_streams=settings.max_streams,
            max_in_flight=part(settings.max_in_flight),
            max_queue=part(settings.max_queue),
            max_shadow_queue=part(settings.max_shadow_queue),
            worker_wait_ms=round(settings.worker_wait_s * 1000),
            worker_timeout_ms=round(settings.worker_timeout_s * 1000),
            shared_tensors_above_bytes=settings.shared_tensors_above_bytes,
            server_name="cutover",
            server_version=__version__,
            reflection=settings.reflection,
            max_connections=settings.max_connections,
            max_header_bytes=settings.max_header_bytes,
            upload_timeout_ms=round(settings.upload_timeout_s * 1000),
            write_timeout_ms=round(settings.write_timeout_s * 1000),
            idle_timeout_ms=round(settings.idle_timeout_s * 1000),
            peers=settings.peers,
            entrance=settings.entrance,
            extensions=settings.extensions,
        )

    def _lost(self, source: ProxyLink) -> None:
        """A proxy without a link serves on, but cannot be told anything: it is replaced."""
        self._surveys.left(source)
        slot = next((slot for slot in self._slots if slot.link is source), None)
        if slot is None:
            return
        slot.link = None
        self._bell.ring()
        if slot.child and not self._stopping:
            self._tasks.start(self._replace_unless_ended(slot, slot.child), f"proxy {slot.index} without a link")

    async def _replace_unless_ended(self, slot: Slot, child: Child) -> None:
        await asyncio.wait([child.exited], timeout=KILL_GRACE_S)
        if slot.child is child and slot.link is None and child.running:
            await self._fence(slot, "lost its link")

    async def _watch(self) -> None:
        """Counts looks and not seconds, so that a machine that slept does not make everybody late."""
        while True:
            await asyncio.sleep(WATCH_S)
            for slot in self._slots:
                slot.silent += slot.child is not None
                limit = SILENT_LIMIT if slot.port else START_LIMIT
                if slot.silent > limit and not self._stopping:
                    await self._fence(slot, f"said nothing for {limit} s")

    async def _fence(self, slot: Slot, why: str) -> None:
        """Kills the process; its place is filled again by `_keep_running`."""
        child = slot.child
        if child is None:
            return
        log.error("proxy fenced", proxy=slot.index, pid=child.pid, why=why)
        await child.kill()


def _since_ms(start_s: float) -> float:
    return round((time.monotonic() - start_s) * 1000, 3)


def _say(slot: Slot, line: str) -> None:
    log.warning("proxy says", proxy=slot.index, line=line)
