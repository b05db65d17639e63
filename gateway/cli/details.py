"""Versions closely, as people read them."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.cli import tables, words
from protos import admin_pb2 as pb


def versions(found: Iterable[pb.Version]) -> RenderableType:
    """Each version with everything that is known of it."""
    parts: list[RenderableType] = []
    for version in found:
        heading = Text.assemble((f"{words.line(version.model)} version {version.version}", "bold"), "  ")
        heading.append_text(tables.state(version))
        heading.append(f"  {', '.join(version.roles) or 'not released'}")
        parts += [heading, Padding(_facts(version), (0, 0, 1, 2), expand=False)]
    return Group(*parts) if parts else Text("no version found")


def _facts(version: pb.Version) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for tensor in version.inputs:
        table.add_row("input", Text(_tensor(tensor)))
    for tensor in version.outputs:
        table.add_row("output", Text(_tensor(tensor)))
    if version.inputs:
        table.add_row("batched", "yes" if version.batched else "no")
    table.add_row("digest", version.digest or "-")
    if version.error:
        table.add_row("error", Text(words.line(version.error)))
    return table


def _tensor(tensor: pb.Tensor) -> str:
    shape = ", ".join("any" if size < 0 else str(size) for size in tensor.shape)
    return f"{words.line(tensor.name)}  {tensor.datatype} [{shape}]"
