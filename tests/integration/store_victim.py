"""A process to be killed: commits one revision after another and says which ones were acknowledged."""

import asyncio
import sys
from pathlib import Path

from gateway.controlplane import audit
from gateway.controlplane.commands import Register, SetCanary
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request
from gateway.controlplane.store.sqlite import SqliteStore


async def main(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    release = (await store.releases()).get("iris", unborn("iris"))
    while True:
        command = SetCanary(2, 1 + release.revision % 10_000) if release.revision else Register(1)
        after, (fact,) = apply(release, command, now_ms=release.revision)
        request_id = f"request-{after.revision}"
        event = audit.draft(fact, actor="victim", reason="", request_id=request_id)
        await store.commit(release.revision, after, event, Request(request_id, "same"))
        release = after
        sys.stdout.write(f"{release.revision}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
