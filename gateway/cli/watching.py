"""`cutover status --watch`: shows the state again whenever a release changes and every few seconds, until interrupted.

A gateway that goes away (a restart, a network that breaks) is waited for; one that was never there is an error.
"""

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from gateway.cli import tables
from gateway.cli.command import Gateway, Notation, Output
from gateway.cli.failure import Exit, Failure
from gateway.cli.overview import Overview, one_line
from gateway.cli.reading import look, plain_status
from protos import admin_pb2 as pb

if TYPE_CHECKING:
    from gateway.cli.admin import Admin, Watch

READER: Final = "watch"
"""The name of the thread that reads a watch."""
Show = Callable[[list[Overview]], None]
Changes = queue.SimpleQueue[pb.Release | Failure]


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
                time.sleep(every_s)


def follow(admin: "Admin", model: str | None, every_s: float, show: Show) -> None:
    """Shows the state at once, after every change and every `every_s`. Ends only by an exception, such as Failure."""
    changes: Changes = queue.SimpleQueue()
    watch = admin.watch(model)
    reader = threading.Thread(target=_read, args=(watch, changes), name=READER, daemon=True)
    reader.start()
    try:
        while True:
            found = look(admin, model)
            show(found)
            _wait(changes, {one.release.model: one.release.etag for one in found}, every_s)
    finally:
        watch.cancel()
        reader.join()


def _wait(changes: Changes, shown: dict[str, str], every_s: float) -> None:
    """Returns after the pause or a release whose etag is not among those shown. Raises what ended the watch."""
    until_s = time.monotonic() + every_s
    while (left_s := until_s - time.monotonic()) > 0:
        try:
            changed = changes.get(timeout=left_s)
        except queue.Empty:
            return
        if isinstance(changed, Failure):
            raise changed
        if shown.get(changed.model) != changed.etag:
            return


def _read(watch: "Watch", changes: Changes) -> None:
    try:
        for release in watch:
            changes.put(release)
        changes.put(Failure(Exit.UNREACHABLE, "the gateway ended the watch"))
    except Failure as failure:
        changes.put(failure)


@contextmanager
def _display(output: Output | Notation) -> Iterator[tuple[Show, Callable[[str], None]]]:
    """How to show a state and a lost connection: JSON lines, a live table, or lines when stdout is not a terminal."""
    if output == Output.JSON:
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
