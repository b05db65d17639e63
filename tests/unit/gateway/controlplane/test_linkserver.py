import asyncio
from pathlib import Path

from gateway.controlplane.linkserver import ProxyLink
from gateway.controlplane.tasks import Bell
from gateway.routing import link


async def test_messages_go_both_ways_and_the_end_is_told(run_dir: Path) -> None:
    heard: list[link.FromProxy] = []
    lost: list[ProxyLink] = []
    bell = Bell()

    def hear(source: ProxyLink, message: link.FromProxy) -> None:
        heard.append(message)
        source.send(link.encode(link.Drain(5)))

    def lose(source: ProxyLink) -> None:
        lost.append(source)
        bell.ring()

    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: ProxyLink(hear, lose), run_dir / "control.sock")
    reader, writer = await asyncio.open_unix_connection(run_dir / "control.sock")
    frame = link.encode(link.Applied(7))
    writer.write(frame[:3])
    await writer.drain()
    writer.write(frame[3:])
    (answer,) = link.Frames().feed(await reader.read(1000))
    assert link.from_control.decode(answer) == link.Drain(5)
    assert heard == [link.Applied(7)]
    writer.write(b"\x03\0\0\0abc")  # unreadable
    await bell.until(lambda: bool(lost))
    assert await reader.read() == b""
    lost[0].send(b"to nobody")
    writer.close()
    server.close()
