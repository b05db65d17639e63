"""How the demo looks: numbered steps, the commands as one would type them, results."""

import shlex
import time
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDTH = 100
INDENT = 5


class Screen:
    """Writes to standard output."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=False)
        if not self._console.is_terminal:
            self._console.width = WIDTH + INDENT
        self._step = 0
        self._start_s = time.monotonic()

    @property
    def number(self) -> int:
        """The step being told."""
        return self._step

    def title(self, text: str, under: str) -> None:
        """The first lines."""
        self._console.print(Text(text, style="bold"))
        self._console.print(under)

    def step(self, title: str, why: str) -> None:
        """Begins the next step: what is done, and why anyone would."""
        self._step += 1
        self._console.print()
        self._console.rule(Text(f"{self._step:>2}. {title}", style="bold cyan"), align="left", style="dim")
        self._put(why)

    def command(self, *arguments: str) -> None:
        """A command line as a user would type it."""
        self._console.print(Text(f"{' ' * INDENT}$ {shlex.join(arguments)}", style="bold green"), soft_wrap=True)

    def output(self, text: str) -> None:
        """What a command said."""
        for line in text.rstrip().splitlines():
            self._console.print(Text(" " * INDENT + line), soft_wrap=True)

    def say(self, text: str) -> None:
        """A result in a sentence."""
        self._put(text)

    def held(self, text: str) -> None:
        """A promise that was checked and held."""
        self._put(Text.assemble(("✓ ", "bold green"), text))

    def failed(self, text: str) -> None:
        """The demo ends here."""
        self._console.print()
        self._console.print(Text(f"✗ step {self._step} failed: {text}", style="bold red"))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A small table, first column left, others right."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column, heading in enumerate(headings):
            table.add_column(heading, justify="left" if column == 0 else "right")
        for row in rows:
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
        self._put(table)

    def end(self, text: str) -> None:
        """The last lines."""
        self._console.print()
        self._console.print(Text(f"{text} ({time.monotonic() - self._start_s:.0f} s)", style="bold"), soft_wrap=True)

    def _put(self, what: str | Text | Table) -> None:
        self._console.print(Padding(what, (0, 0, 0, INDENT), expand=False))
