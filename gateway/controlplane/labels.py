"""The names of a version's classes: text files beside the model that its `model.toml` assigns to outputs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 1 << 20
"""Of all label files of one version: every proxy keeps them."""

Labels = dict[str, tuple[str, ...]]
"""By output, in the order of the classes; an empty one is none."""


def read_labels(folder: Path, sizes: Mapping[str, int], named: Mapping[str, str]) -> tuple[Labels, str]:
    """The labels, or one line that says what is wrong. sizes: of the version's files, by their path in its folder.

    Only files among these are read, so that what is outside the folder stays outside. Raises OSError.
    """
    found: Labels = {}
    left_bytes = MAX_BYTES
    for output, path in named.items():
        if path not in sizes:
            return {}, f"labels of output '{output}': there is no file {path} beside the model; put it there"
        left_bytes -= sizes[path]
        if left_bytes < 0:
            return {}, f"labels of output '{output}': {path} is too large; all together may have {MAX_BYTES >> 20} MiB"
        try:
            text = (folder / path).read_bytes()[:MAX_BYTES].decode("utf-8-sig")
        except UnicodeDecodeError:
            return {}, f"labels of output '{output}': {path} is not UTF-8; save it as such"
        found[output] = tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
    return found, ""


def unknown_outputs(labels: Labels, outputs: Iterable[str]) -> str:
    """What is wrong with the labels of a model with these outputs, in one line; "" when nothing is."""
    offered = list(outputs)
    strangers = [output for output in labels if output not in offered]
    if not strangers:
        return ""
    return f"model.toml: labels of output '{strangers[0]}', but the model gives {', '.join(offered)}; correct the name"
