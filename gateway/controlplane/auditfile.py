"""The audit log outside of a gateway: as JSON lines, and as it lies in the SQLite file of one that is not running.

A line is the event's fields, keys sorted, no spaces, UTF-8: what its hash is made of, and the hash. Every byte counts.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec

from gateway.controlplane.audit import TOLD_OF_TOKENS, AuditEvent, told_of
from gateway.routing.snapshot import Release

_CHANGE: Final = "SELECT after FROM audit WHERE audit.model = known.model AND audit.kind = 'change'"
_RELEASES: Final = (
    f"SELECT model, releases.body, ({_CHANGE} ORDER BY sequence DESC LIMIT 1) "  # noqa: S608  names of our own
    "FROM (SELECT model FROM releases UNION SELECT model FROM audit WHERE kind = 'change') AS known "
    "LEFT JOIN releases USING (model) ORDER BY model"
)
"""All models, also those that have no release any more: none is ever taken away."""
_REVISIONS: Final = (
    f"SELECT model, revision, body, ({_CHANGE} AND audit.revision = known.revision) FROM revisions AS known "  # noqa: S608  names of our own
    "ORDER BY model, revision"
)
_FIELDS: Final = ", ".join(f'audit."{name}"' for name in AuditEvent.__struct_fields__)


class Damaged(Exception):
    """What is no audit log, or not as it was written; one line that says where."""


def line(event: AuditEvent) -> bytes:
    """An event as a line, with its end."""
    text = json.dumps(msgspec.structs.asdict(event), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def events(lines: Iterable[bytes]) -> Iterator[AuditEvent]:
    """The events of lines. Raises Damaged at the first that `line` would have written otherwise."""
    for number, found in enumerate(lines, 1):
        try:
            event = msgspec.json.decode(found, type=AuditEvent)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"line {number} is no audit event: {error}") from None
        if line(event) != found:
            raise Damaged(f"line {number} is not as it was written: keys, order or spaces were changed")
        yield event


class File:
    """The SQLite file of a gateway, for reading only. A context manager."""

    def __init__(self, path: Path) -> None:
        """Raises Damaged when there is none."""
        self._path = path
        if not path.is_file():
            raise Damaged(f"{path} does not exist: name the state directory of a gateway")
        self._db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=0.5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def events(self) -> Iterator[AuditEvent]:
        """All, oldest first. Raises Damaged."""
        for row in self._rows(f"SELECT {_FIELDS} FROM audit ORDER BY sequence"):  # noqa: S608  names of our own
            try:
                yield msgspec.convert(dict(zip(AuditEvent.__struct_fields__, row, strict=True)), AuditEvent)
            except msgspec.ValidationError as error:
                raise Damaged(f"audit event {row[0]} is no event: {error}") from None

    def strange(self) -> Iterator[str]:
        """What releases, their revisions and tokens say otherwise than the events in which they were written.

        Raises Damaged.
        """
        for model, body, after in self._rows(_RELEASES):
            if not (body and _tells(after, body)):
                yield f"the release of {model} is not what the last change in the audit log made of it"
        for model, revision, body, after in self._rows(_REVISIONS):
            if not _tells(after, body):
                yield f"revision {revision} of {model}, to which could be rolled back, is not what the audit log says"
        yield from self._strange_tokens()

    def _strange_tokens(self) -> Iterator[str]:
        told: dict[str, Any] = {}
        for (after,) in self._rows("SELECT after FROM audit WHERE kind = 'access' AND after != '' ORDER BY sequence"):
            with suppress(ValueError, KeyError, TypeError):  # accesses may be to something else
                token = json.loads(after)
                told[token["id"]] = token
        kept: dict[str, Any] = {}
        for row in self._rows(f"SELECT {', '.join(TOLD_OF_TOKENS)} FROM tokens"):  # noqa: S608  names of our own
            kept[row[0]] = dict(zip(TOLD_OF_TOKENS, row, strict=True))
            with suppress(ValueError, TypeError):
                kept[row[0]]["roles"] = json.loads(kept[row[0]]["roles"])
        for token_id in sorted(told.keys() | kept.keys()):  # none is ever taken away
            if told.get(token_id) != kept.get(token_id):
                yield f"token {token_id} is not what the audit log says was made, or revoked"

    def _rows(self, query: str) -> Iterator[Any]:
        try:
            with closing(self._db.execute(query)) as rows:
                yield from rows
        except sqlite3.Error as error:
            raise Damaged(f"{self._path}: {error}{_remedy(error)}") from None


def _tells(after: str | None, body: str) -> bool:
    """Whether an event's `after` is about the release of that body."""
    try:
        release = told_of(msgspec.json.decode(body, type=Release))
        return bool(json.loads(msgspec.json.encode(release)) == _plain(after or ""))
    except (ValueError, TypeError, KeyError):
        return False


def _plain(after: str) -> dict[str, Any]:
    """The release in an event, without what the command did to its overrides."""
    found: dict[str, Any] = json.loads(after)
    listed = found["policy"].get("override_list", {})
    for name in ("set", "removed"):
        listed.pop(name, None)
    if listed.get("count") == 0:
        del found["policy"]["override_list"]
    return found


def _remedy(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "; a gateway uses it: ask that one (`cutover audit --verify`), or stop it first"
    if "no such column" in str(error):
        return "; it was written by an older Cutover: start this one on it once"
    return ""
