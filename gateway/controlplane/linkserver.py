"""The control process's end of the link to one proxy (`gateway.routing.link`)."""

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec
import structlog

from gateway.routing import link

log = structlog.get_logger()


class ProxyLink(asyncio.Protocol):
    """One connection at the control socket; whoever sends something unreadable is disconnected."""

    def __init__(
        self, heard: Callable[["ProxyLink", link.FromProxy], None], lost: Callable[["ProxyLink"], None]
    ) -> None:
        self._heard = heard
        self._lost = lost
        self._frames = link.Frames()
        self._transport: asyncio.WriteTransport | None = None

    def send(self, message: bytes) -> None:
        """Sends one encoded frame; nothing happens when the link is gone."""
        if self._transport and not self._transport.is_closing():
            self._transport.write(message)

    def close(self) -> None:
        """Closes the connection at once."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                self._heard(self, link.from_proxy.decode(body))
        except (ValueError, msgspec.DecodeError) as error:
            log.warning("unreadable message on the control socket", error=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)
