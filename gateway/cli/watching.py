"""`cutover status --watch`: shows the state again whenever a release changes and every few seconds, until interrupted.

A gateway that goes away (a restart, a network that breaks) is waited for; one that was never there is an error.
"""

import json
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from gateway.cli import tables
from gateway.cli.command import Gateway, Output
from gateway.cli.failure import Exit, Failure
from gateway.cli.overview import Overview, one_line
from gateway.cli.reading import look, plain_status

if TYPE_CHECKING:
    from gateway.cli.admin import Admin, Watch

Show = Callable[[list[Overview]], None]


def watch_status(gateway: Gateway, model: str | None, every_s: float) -> None:
    """Never returns: ends by Ctrl-C, or by a Failure that waiting cannot mend."""
    with _display(gateway.output) as (show, lost):
        seen = False

        def shown(overviews: list[Overview]) -> None:
            nonlocal seen
            seen = True
            show(overviews)

        while True:
            try:
                with gateway.connect() as admin:
                    follow(admin, model, every_s, shown)
            except Failure as failure:
                if failure.code is not Exit.UNREACHABLE or not seen:
                    raise
                lost(f"{failure}; trying again")
                threading.Event().wait(every_s)


def follow(admin: "Admin", model: str | None, every_s: float, show: Show) -> None:
    """Shows the state at once, after every change and every `every_s`. Ends only by an exception, such as Failure."""
    changes: queue.SimpleQueue[Failure | None] = queue.SimpleQueue()
    watch = admin.watch(model)
    reader = threading.Thread(target=_read, args=(watch, changes), daemon=True)
    reader.start()
    try:
        while True:
            show(look(admin, model))
            _wait(changes, every_s)
    finally:
        watch.cancel()
        reader.join()


def _wait(changes: "queue.SimpleQueue[Failure | None]", every_s: float) -> None:
    """Returns after a change or the pause; several changes at once count as one. Raises what ended the watch."""
    try:
        ended = changes.get(timeout=every_s)
        while ended is None:
            ended = changes.get_nowait()
    except queue.Empty:
        return
    raise ended


def _read(watch: "Watch", changes: "queue.SimpleQueue[Failure | None]") -> None:
    try:
        for _ in watch:
            changes.put(None)
        changes.put(Failure(Exit.UNREACHABLE, "the gateway ended the watch"))
    except Failure as failure:
        changes.put(failure)


@contextmanager
def _display(output: Output) -> Iterator[tuple[Show, Callable[[str], None]]]:
    """How to show a state and a lost connection: JSON lines, a live table, or lines when stdout is not a terminal."""
    if output is Output.JSON:
        yield _json_line, _complain
    elif sys.stdout.isatty():
        with Live(console=tables.console(), auto_refresh=False, vertical_overflow="visible") as live:
            screen = _Screen(live)
            yield screen.show, screen.lost
    else:
        yield _Lines().show, _complain


def _json_line(found: list[Overview]) -> None:
    typer.echo(json.dumps(plain_status(found), ensure_ascii=False))


def _complain(message: str) -> None:
    typer.echo(f"cutover: {message}", err=True)


class _Lines:
    """One line per model, only when it says something new."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def show(self, found: list[Overview]) -> None:
        time = datetime.now().astimezone().strftime("%H:%M:%S")
        for overview in found:
            text = one_line(overview)
            if self._said.get(overview.release.model) != text:
                self._said[overview.release.model] = text
                typer.echo(f"{time} {text}")


class _Screen:
    """The status table, redrawn in place."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._last: RenderableType = Text("")

    def show(self, found: list[Overview]) -> None:
        self._last = tables.status(found, tables.utc_now())
        self._live.update(self._last, refresh=True)

    def lost(self, message: str) -> None:
        self._live.update(Group(self._last, Text(message, "yellow")), refresh=True)
