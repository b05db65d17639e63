"""Several gateways on one store in virtual time: messages are late or lost, gateways are killed, clocks run apart.

What decides is the real thing (`Releases`, `Peers`, `Follower`); the store, the proxies and the network are models of
themselves. Every run with the same seed is the same run.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from gateway.controlplane.audit import verify
from gateway.controlplane.commands import Command, Flip, PrepareStandby, RemoveCanary, Rollback, SetCanary
from gateway.controlplane.etag import etag
from gateway.controlplane.follower import Follower
from gateway.controlplane.peers import Peers
from gateway.controlplane.ports import Applied, VersionStatus
from gateway.controlplane.releases import Releases
from gateway.controlplane.store import Store
from gateway.controlplane.store.members import Members
from gateway.controlplane.store.memory import MemoryStore
from gateway.controlplane.store.memorymembers import MemoryMembers
from gateway.errors import NotReady, RequestError, StoreFailed
from gateway.routing.snapshot import Release

MODELS = ("iris", "wine")
NAMES = ("a", "b", "c")
LEASE_S = 3.0
SETTLED_S = 15.0
TIMEOUT_S = 2.0
"""How long a gateway waits for the store before it gives a call up, which may be carried out all the same."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while anything can run, then leaps to the next timer."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        inner: Any = self  # what asyncio keeps to itself has no types
        if not inner._ready and inner._scheduled:
            self.now_s = max(self.now_s, inner._scheduled[0].when())
        cast(Any, super())._run_once()


@dataclass
class Proxy:
    """What one proxy would answer by."""

    sequence: int = 0
    until_s: float | None = None
    """By its gateway's clock."""


class Network:
    """Between one gateway and the store; stands in for both `Store` and `Members`."""

    def __init__(self, world: "World", inner: Any) -> None:
        self._world = world
        self._inner = inner
        self.cut = False
        self.dead = False
        """The gateway was killed: nobody sends."""
        self._hears: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*values: Any, **named: Any) -> Any:
            if self.dead:
                raise StoreFailed("who asks was killed")
            sent = asyncio.get_running_loop().create_task(self._carry(name, values, named))
            self._world.sent.add(sent)
            sent.add_done_callback(self._world.arrived)
            try:
                return await asyncio.wait_for(asyncio.shield(sent), TIMEOUT_S)
            except TimeoutError:
                raise StoreFailed("the store does not answer") from None

        return call

    async def _carry(self, name: str, values: Any, named: Any) -> Any:
        await self._pass()
        answer = await getattr(self._inner, name)(*values, **named)
        await self._pass()
        return answer

    async def _pass(self) -> None:
        """A message arrives, or is lost."""
        chance = self._world.random
        is_late = chance.random() < 0.03 and not self._world.calm
        await asyncio.sleep(chance.uniform(0, 4.0) if is_late else chance.uniform(0.0005, 0.005))
        if self.cut or self._world.store_down:
            await asyncio.sleep(2 * TIMEOUT_S)
            raise StoreFailed("cut off")

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Hints, of which some are lost."""

        def maybe() -> None:
            if not self.cut and not self.dead and self._world.random.random() < 0.9:
                asyncio.get_running_loop().call_later(self._world.random.uniform(0, 0.01), heard)

        end: Callable[[], None] = self._inner.subscribe(maybe)
        return end


class HintingStore(MemoryStore):
    """A store whose commits others hear of."""

    def __init__(self) -> None:
        super().__init__()
        self.told: Callable[[], None] = lambda: None

    async def commit(self, *values: Any) -> Release:
        kept = await super().commit(*values)
        self.told()
        return kept


class Fleet:
    """The workers and two proxies of one life of a gateway; the proxies outlive it."""

    def __init__(self, world: "World", gateway: "SimulatedGateway") -> None:
        self._world = world
        self._gateway = gateway
        self.proxies = [Proxy(), Proxy()]
        self.started = False
        self.until_s: float | None = None

    async def prepare(self, model: str, version: int, *, shadow: bool) -> None:
        await asyncio.sleep(self._world.random.uniform(0, 0.3))

    async def check(self, model: str, version: int, *, shadow: bool) -> None:
        """Whatever is asked for is there."""

    def keep(self, model: str, version: int, keep_s: float) -> None:
        """Everything stays."""

    async def serve(self, releases: Mapping[str, Release]) -> tuple[Applied, ...]:
        sequence = max((release.sequence for release in releases.values()), default=0)
        chance = self._world.random
        await asyncio.gather(
            *(self._apply(proxy, sequence, 2.0 if chance.random() < 0.03 else 0.002) for proxy in self.proxies)
        )
        return tuple(Applied(index, 1.0) for index, _ in enumerate(self.proxies))

    async def _apply(self, proxy: Proxy, sequence: int, most_s: float) -> None:
        await asyncio.sleep(self._world.random.uniform(0, most_s))
        proxy.sequence = max(proxy.sequence, sequence)

    def lease(self, until_s: float | None) -> None:
        for proxy in self.proxies:
            proxy.until_s = until_s
        self._world.check(f"{self._gateway.name} was given a lease")

    async def survey(self) -> None:
        await asyncio.sleep(0.001)

    def statuses(self) -> list[VersionStatus]:
        return []

    def problems(self) -> list[str]:
        return []


class SimulatedGateway:
    """One gateway through its lives."""

    def __init__(self, world: "World", name: str, lease_s: float) -> None:
        self.name = name
        self._world = world
        self._lease_s = lease_s
        self._rate, self._offset_s = world.random.uniform(0.995, 1.005), world.random.uniform(-1e6, 1e6)
        self.releases: Releases | None = None
        """Of the life that takes changes."""
        self._follower: Follower | None = None
        self.fleets: list[Fleet] = []
        """Whose proxies answer, orphans included."""
        self._networks: tuple[Network, ...] = ()

    def clock_s(self) -> float:
        return self._offset_s + self._rate * self._world.loop.time()

    async def start(self) -> None:
        """A life; raises what a start raises."""
        networks = Network(self._world, self._world.store), Network(self._world, self._world.members)
        store, members = cast(Store, networks[0]), cast(Members, networks[1])
        fleet = Fleet(self._world, self)
        peers = Peers(members, self.name, self._world.clock_ms, self.clock_s)
        releases = Releases(store, fleet, self._world.clock_ms, peers)
        follower = Follower(members, peers, releases, fleet, fleet, self._lease_s)
        follower._clock_s = self.clock_s
        self._networks = networks
        self._follower, self._peers = follower, peers
        await releases.start()
        for model in MODELS:
            await releases.register(model, 1)
        orphans = tuple(self.fleets)
        await follower.join(orphans=bool(orphans))
        self.fleets.append(fleet)
        self._world.check(f"{self.name} has opened")
        await asyncio.sleep(self._world.random.uniform(0, 1.0))
        for orphan in orphans:
            self.fleets.remove(orphan)
        follower.only_ours_answer()
        self.releases = releases

    def cut(self, is_cut: bool) -> None:
        for network in self._networks:
            network.cut = is_cut

    async def kill(self) -> None:
        """Its proxies stay; what was sent is on its way."""
        self.releases = None
        for network in self._networks:
            network.dead = True
        if self._follower is not None:
            await self._follower._tasks.close()
            self._follower._hints.end()
            await self._peers.close()

    def answers_by(self) -> list[int]:
        """The sequences by which its proxies would answer now."""
        return [
            proxy.sequence
            for fleet in self.fleets
            for proxy in fleet.proxies
            if proxy.until_s is None or self.clock_s() < proxy.until_s
        ]


@dataclass
class World:
    """Everything, and what was promised."""

    seed: int
    loop: VirtualLoop
    lease_s: float
    sent: set[asyncio.Task[Any]] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    promised: int = 0
    """The newest change that was answered with OK."""
    acknowledged: dict[str, Release] = field(default_factory=dict)
    """By request id."""
    outcomes: Counter[str] = field(default_factory=Counter)
    store_down: bool = False
    calm: bool = False
    """No message is late any more."""
    fenced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - repeatable, not secret
        self.store = HintingStore()
        self._ticks = 0
        self.members = MemoryMembers(self.store, self.database_clock_s)
        self.store.told = self.members._tell
        self.gateways = [SimulatedGateway(self, name, self.lease_s) for name in NAMES]

    def arrived(self, call: asyncio.Task[Any]) -> None:
        """A call to the store has ended, heard or not."""
        self.sent.discard(call)
        if not call.cancelled():
            call.exception()

    def database_clock_s(self) -> float:
        """Never twice the same, but set forward and back."""
        self._ticks += 1
        return 1e9 + self.loop.time() + self._ticks * 1e-5 + 3600 * (self._ticks // 500 % 2)

    def clock_ms(self) -> int:
        return round(self.loop.time() * 1000)

    def check(self, when: str) -> None:
        """No proxy answers by what was before a change that was answered."""
        for gateway in self.gateways:
            late = [sequence for sequence in gateway.answers_by() if sequence < self.promised]
            if late:
                self.problems.append(
                    f"{self.loop.time():.3f} s, {when}: a proxy of {gateway.name} answers by {late[0]}, "
                    f"{self.promised} was promised"
                )

    async def operate(self, operator: int, changes: int) -> None:
        """Changes something now and then, at a gateway that lives; sends again elsewhere what got no clear answer."""
        for number in range(changes):
            await asyncio.sleep(self.random.uniform(0, 1.5))
            model = self.random.choice(MODELS)
            request_id = f"{operator}-{number}"
            command, given = None, ""
            for _ in range(self.random.choice((1, 3))):
                living = [one.releases for one in self.gateways if one.releases is not None]
                if not living:
                    break
                releases = self.random.choice(living)
                if command is None:
                    current = releases.get(model)
                    command, given = self._decide(current), etag(current)
                if await self._ask(releases, model, command, given, request_id):
                    break

    def _decide(self, release: Release) -> Command:
        if release.policy.standby is not None and self.random.random() < 0.6:
            return Flip()
        if release.rollback is not None and self.random.random() < 0.4:
            return Rollback()
        if release.policy.canaries and self.random.random() < 0.3:
            return RemoveCanary(release.policy.canaries[0].version)
        version = self.random.choice([number for number in (1, 2, 3) if number != release.policy.stable])
        return self.random.choice((PrepareStandby(version), SetCanary(version, self.random.randint(1, 4000))))

    async def _ask(self, releases: Releases, model: str, command: Command, given: str, request_id: str) -> bool:
        """False: it is not known whether it was made."""
        try:
            changed = await releases.change(
                model, command, etag=given, request_id=request_id, reason="simulated", actor="operator"
            )
        except RequestError as error:
            self.outcomes[type(error).__name__] += 1
            return not isinstance(error, StoreFailed | NotReady)
        if all(one.releases is not releases for one in self.gateways):
            return False  # it was killed meanwhile
        self.outcomes["OK"] += 1
        self.acknowledged[request_id] = changed.release
        self.promised = max(self.promised, changed.release.sequence)
        self.check(f"{model} was changed")
        return True

    async def storm(self, blows: int) -> None:
        """Gateways are killed and started, cut off, fenced by an operator; the store goes and comes."""
        for _ in range(blows):
            await asyncio.sleep(self.random.uniform(0.2, 4.0))
            gateway = self.random.choice(self.gateways)
            await self.random.choice((self._restart, self._cut, self._store_gone, self._bury))(gateway)

    async def _restart(self, gateway: SimulatedGateway) -> None:
        if gateway.releases is None:
            return
        await gateway.kill()
        await asyncio.sleep(self.random.choice((0.1, 2.0, 8.0)))
        await self.bring_up(gateway)

    async def bring_up(self, gateway: SimulatedGateway) -> None:
        """Starts it until it has started, as a supervisor does."""
        while True:
            try:
                await gateway.start()
            except RequestError:
                await gateway.kill()
                await asyncio.sleep(0.5)
            else:
                return

    async def _cut(self, gateway: SimulatedGateway) -> None:
        gateway.cut(True)
        await asyncio.sleep(self.random.choice((0.2, 1.5, 8.0)))
        gateway.cut(False)

    async def _store_gone(self, _: SimulatedGateway) -> None:
        self.store_down = True
        await asyncio.sleep(self.random.choice((0.2, 3.0)))
        self.store_down = False

    async def _bury(self, gateway: SimulatedGateway) -> None:
        """An operator ends all of a gateway and tells another that it is dead."""
        others = [one for one in self.gateways if one is not gateway and one.releases is not None]
        if gateway.releases is None or not others:
            return
        await gateway.kill()
        gateway.fleets.clear()
        await asyncio.sleep(self.random.choice((1.0, 7.0)))
        try:
            await self.random.choice(others)._peers.fence(gateway.name, "buried", "operator")
            self.fenced.append(gateway.name)
        except RequestError:
            pass
        await self.bring_up(gateway)

    async def live(self, changes: int, blows: int) -> None:
        """From the first start to the end, when all is whole again."""
        for gateway in self.gateways:
            await self.bring_up(gateway)
        await asyncio.gather(self.storm(blows), *(self.operate(operator, changes) for operator in range(3)))
        self.calm = True
        await asyncio.sleep(SETTLED_S)
        await self._conclude()
        for gateway in self.gateways:
            await gateway.kill()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _conclude(self) -> None:
        """Everybody serves everything; the log is whole; what was acknowledged was kept, once."""
        events = list(reversed(await self.store.events(None, 10_000, None)))
        if (broken := verify(events)) is not None:
            self.problems.append(broken)
        newest = max(release.sequence for release in (await self.store.releases()).values())
        for gateway in self.gateways:
            if (found := gateway.answers_by()) != [newest, newest]:
                self.problems.append(f"{gateway.name} answers by {found} in the end, not by {newest}")
        times = Counter(event.request_id for event in events if event.request_id)
        self.problems += [f"{request} was carried out {count} times" for request, count in times.items() if count > 1]
        for request_id, release in self.acknowledged.items():
            if await self.store.revision(release.model, release.revision) != release:
                self.problems.append(f"{request_id} was acknowledged as {release.revision}, which was not kept")


def simulate(seed: int, *, lease_s: float, changes: int = 8, blows: int = 6) -> World:
    """One run."""
    loop = VirtualLoop()
    world = World(seed, loop, lease_s)
    try:
        loop.run_until_complete(world.live(changes, blows))
    finally:
        loop.close()
    return world
