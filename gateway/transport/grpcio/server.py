"""Serves a `Service` by grpcio's asyncio server."""

import asyncio
import logging
import math
import socket
from functools import partial
from time import monotonic

import grpc
import grpc.aio

from gateway.errors import Code
from gateway.transport.call import Metadata, Service, Streaming
from gateway.transport.grpcio.calls import serve_call
from gateway.transport.grpcio.metadata import peer_of, values
from gateway.transport.grpcio.options import channel_options
from gateway.transport.grpcio.rpc import Caller, Context, Rpc
from gateway.transport.grpcio.streams import serve_stream
from gateway.transport.grpcio.tls import server_credentials
from gateway.transport.h2.limits import Counters, Limits
from gateway.transport.peers import NOBODY, BadPeer, Trusted
from gateway.transport.tls import Credentials

__all__ = ["GrpcioServer", "Limits", "listen"]

logger = logging.getLogger(__name__)


class _Methods(grpc.GenericRpcHandler):
    """Every path is a method: a `Service` says only when it is asked which there are."""

    def __init__(self, server: "GrpcioServer") -> None:
        self._server = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Called by grpcio with the path and metadata of each call."""
        serve = partial(self._server.serve, handler_call_details)
        return grpc.stream_stream_rpc_method_handler(serve)


class GrpcioServer:
    """A listening transport; see `gateway.transport.call.Server`. Made by `listen`."""

    def __init__(self, service: Service, limits: Limits, trusted: Trusted = NOBODY) -> None:
        self.port = 0
        self._trusted = trusted
        self._service = service
        self._limits = limits
        self._counters = Counters()
        self._callers: dict[str, Caller] = {}
        self._server = grpc.aio.server(handlers=[_Methods(self)], options=channel_options(limits))
        self._closing: asyncio.Task[None] | None = None

    async def start(self, sock: socket.socket, tls: Credentials | None = None) -> None:
        """Accepts connections from now on at the address of a bound socket, which is closed: grpcio makes its own.

        The socket shares its port (SO_REUSEPORT), so that nobody else gets it meanwhile. Raises OSError when grpcio
        cannot listen there.
        """
        with sock:
            address = _address(sock)
            try:
                if tls is None:
                    port = self._server.add_insecure_port(address)
                else:
                    port = self._server.add_secure_port(address, server_credentials(tls))
            except RuntimeError as error:
                raise OSError(f"grpcio cannot listen on {address}: {error}") from None
            await self._server.start()
        if not address.startswith("unix"):
            self.port = port

    @property
    def connections(self) -> int:
        """Client connections with calls under way: grpcio does not tell of the others."""
        return len(self._callers)

    @property
    def held_bytes(self) -> int:
        """Replies that callers have not read: what grpcio keeps besides it does not tell."""
        return sum(caller.backlog_bytes for caller in self._callers.values())

    def take_refusals(self) -> dict[str, int]:
        """How often `backlog` and `stream_idle` struck since the last call; what grpcio refuses it does not count."""
        return self._counters.take()

    async def drain(self, grace_s: float) -> None:
        """Stops accepting, says goodbye, waits for calls in flight up to the grace, then closes everything."""
        await self._server.stop(grace_s)

    def close(self) -> None:
        """Stops accepting and closes every connection; calls in flight are cancelled."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._server.stop(None))

    async def serve(self, details: grpc.HandlerCallDetails, _: object, context: Context) -> None:
        """One RPC, from its headers to its end."""
        name = context.peer()
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = Caller()
        caller.calls += 1
        rpc = Rpc(context, caller, self._limits, self._counters)
        try:
            await self._serve(rpc, details, context)
        except asyncio.CancelledError:
            raise
        except BadPeer as error:
            rpc.refuse(Code.UNAUTHENTICATED, str(error))
        except Exception:
            logger.exception("cannot serve %r", details.method)
            rpc.refuse(Code.INTERNAL, "internal error")
        finally:
            caller.calls -= 1
            if not caller.calls:
                del self._callers[name]

    async def _serve(self, rpc: Rpc, details: grpc.HandlerCallDetails, context: Context) -> None:
        left_s = context.time_remaining()
        deadline_s = math.inf if left_s is None else monotonic() + left_s
        rpc.peer = peer_of(context.peer(), context.auth_context(), self._trusted)
        handler = self._service.resolve(details.method)
        found = Metadata(details.method, values(details.invocation_metadata, rpc.peer), left_s, handler)
        if handler is None:
            rpc.refuse(Code.UNIMPLEMENTED, f"unknown method {details.method}")
        elif isinstance(handler, Streaming):
            await serve_stream(rpc, found, handler, deadline_s)
        else:
            await serve_call(rpc, found, handler, deadline_s)


def _address(sock: socket.socket) -> str:
    """The address of a bound socket, in grpcio's words (grpc/grpc doc/naming.md)."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


async def listen(
    sock: socket.socket,
    service: Service,
    limits: Limits,
    tls: Credentials | None = None,
    trusted: Trusted = NOBODY,
) -> GrpcioServer:
    """Serves `service` at the address of a bound socket (see `GrpcioServer.start`). Raises OSError when it cannot."""
    server = GrpcioServer(service, limits, trusted)
    await server.start(sock, tls)
    return server
