"""Values as TOML writes them. Pure. Reading is `tomllib`'s business, which cannot write."""

import json
import re
from collections.abc import Iterable
from typing import Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def text(value: str) -> str:
    """A basic string: JSON's escapes are TOML's, which has one more."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def texts(values: Iterable[str]) -> str:
    """A list of strings on one line."""
    return f"[{', '.join(map(text, values))}]"


def key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if _BARE.fullmatch(name) else text(name)
