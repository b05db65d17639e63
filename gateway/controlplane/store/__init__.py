"""Where releases and their audit log live. `Store` is the interface; `sqlite`, `postgres` and `memory` are stores.

Every implementation passes the same tests (tests/integration/test_store.py).
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from gateway.controlplane.audit import AuditEvent, Draft
from gateway.routing.snapshot import Release

REMEMBERED: Final = 1000
"""Changes whose request ids are remembered, the newest: each is kept with the whole release it was answered with."""


class Request(NamedTuple):
    """A caller's request id and the fingerprint of what it asked for."""

    request_id: str
    fingerprint: str


class Recalled(NamedTuple):
    """What a request id was used for, and what was answered."""

    fingerprint: str
    release: Release


class Token(msgspec.Struct, frozen=True, tag="token", tag_field="line"):
    """Who may do what, whoever presents the secret."""

    id: str
    hash: str
    """SHA-256 of the secret, hex."""
    roles: Mapping[str, str]
    """Role by model."""
    created_by: str
    created_ms: int
    expires_ms: int = 0
    """0: never."""
    revoked_ms: int = 0
    """0: it holds."""


class Store(Protocol):
    """Durable releases, audit events and answered requests.

    A call that has begun is carried out to its end even if its caller is cancelled. After `open` every method may raise
    StoreFailed; then nothing is acknowledged, and a commit may or may not have been kept: read `releases` again.
    """

    async def open(self) -> None:
        """Makes the store ready. Raises StartupError, one line with the remedy."""

    async def close(self) -> None:
        """Ends what is under way and lets go of the store; may be called twice."""

    async def releases(self) -> dict[str, Release]:
        """All releases by model."""

    async def since(self, sequence: int) -> list[Release]:
        """The releases that were changed after that sequence, each as it is now, in the order of their last changes."""

    async def revision(self, model: str, revision: int) -> Release | None:
        """The release as it was at that revision; None: there is none, or it is older than what the store keeps."""

    async def revisions(self, model: str, limit: int, before_revision: int | None) -> list[Release]:
        """At most `limit` of the revisions of a release that the store has kept, newest first; older than one, unless
        None.
        """

    async def commit(self, expected_revision: int, release: Release, event: Draft, request: Request | None) -> Release:
        """Keeps the release, its audit event and the request's answer, all or none; on return they survive a crash.

        Returns the release with its sequence: one more than that of the newest change, or the release's own if that is
        higher. Audit events are counted for themselves, so that the numbers of changes may leap (a restore does that)
        while the chain has no gap.

        `expected_revision`: the revision it replaces; 0: a new model. Raises Stale if the store is at another
        revision or knows the request id. `event` carries the id, too, and tells of this release: where a
        start finds them to differ, the store is damaged.
        """

    async def enrol(self, births: Sequence[tuple[Release, Draft]]) -> list[Release]:
        """Keeps the first releases of models and their audit events, all or none; durable on return.

        Returns them with their sequences, in the same order. Raises Stale if one of the models has a release already.
        """

    async def note(self, event: Draft) -> AuditEvent:
        """Adds an event that changes no release (a refusal, an access) to the audit log; durable on return."""

    async def recall(self, request_id: str) -> Recalled | None:
        """What was answered to the request id, if it made one of the REMEMBERED newest changes."""

    async def events(self, model: str | None, limit: int, before_sequence: int | None) -> list[AuditEvent]:
        """At most `limit` events, newest first; of one model, and older than a sequence, unless None."""

    async def tokens(self) -> list[Token]:
        """All tokens, expired and revoked ones, too, by id."""

    async def put_token(self, token: Token, event: Draft) -> AuditEvent:
        """Keeps a token, in place of one with the same id, and its event, both or neither; durable on return."""

    async def drop_token(self, token_id: str, event: Draft) -> bool:
        """Forgets a token, and keeps the event of that; False, and no event: there is none with that id."""

    def dump(self) -> AsyncIterator[bytes]:
        """Everything of one moment as JSON lines (`backup`), one at a time; changes may go on meanwhile."""

    async def load(self, lines: Iterable[bytes]) -> None:
        """Takes over what `dump` gave, all or nothing.

        Raises Refused if the store is not empty, InvalidRequest if lines are missing, changed or out of order.
        """
