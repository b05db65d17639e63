"""Changes for stores to keep, and what is read of them."""

import msgspec

from gateway.controlplane import audit
from gateway.controlplane.commands import Command, Register, SetCanary, SetShadow
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request, Store
from gateway.routing.snapshot import Release

CHANGES: tuple[Command, ...] = (Register(1), SetShadow(2, 0.25), SetCanary(2, 700), SetCanary(3, 300))


async def commit(store: Store, release: Release, command: Command, request: Request | None = None) -> Release:
    after, (fact,) = apply(release, command, now_ms=1_000 + release.revision)
    request_id = request.request_id if request else ""
    event = audit.draft(fact, actor="ada", reason="Ünïcødé 😊", request_id=request_id)
    placed = await store.commit(release.revision, after, event, request)
    assert placed == msgspec.structs.replace(after, sequence=placed.sequence)
    return placed


async def fill(store: Store, model: str = "iris") -> Release:
    release = unborn(model)
    for command in CHANGES:
        release = await commit(store, release, command, Request(f"{model}-{release.revision}", "print"))
    return release


async def chain(store: Store) -> list[audit.AuditEvent]:
    return list(reversed(await store.events(None, 10_000, None)))


def access(verb: str) -> audit.Draft:
    return audit.Draft(*(7, "ada", verb, "", 0, "", "", "", ""), kind=audit.ACCESS)
