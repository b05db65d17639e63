"""Stands in front of every call of the admin API: who calls, and may they?"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Final

import grpc

from gateway.controlplane.access.identity import AUTHORIZATION, Caller, address
from gateway.controlplane.access.keeper import Keeper
from gateway.controlplane.access.needs import NEEDS, About, Need, model_of
from gateway.controlplane.access.streams import answered, checked
from gateway.controlplane.access.views import trim
from gateway.controlplane.repository import MODEL_NAME
from gateway.controlplane.statuses import Context, Continuation, Handler
from gateway.errors import Forbidden, InvalidRequest, Late, Unauthenticated
from gateway.transport.call import UNKNOWN_PEER, Peer
from gateway.transport.grpcio.metadata import peer_of
from gateway.transport.peers import BadPeer

LOOK_S = 5.0
"""How often to look whether a caller may still have an answer that is not there yet."""
REQUEST_S = 10.0
"""How long a request may be on its way: until it is there it holds one of the calls there are."""
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def calling() -> Caller | None:
    """Who makes the call that is being answered; None: no guard has asked."""
    return _caller.get()


class Guard(grpc.aio.ServerInterceptor):
    """Lets a call through to its handler, or raises Unauthenticated or Forbidden; cuts answers to what may be seen."""

    def __init__(self, keeper: Keeper, target_of: Callable[[str], str]) -> None:
        """`target_of`: the resource that an operation, by its name, is about; "": there is no such operation."""
        self._keeper = keeper
        self._target_of = target_of

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """The handler with the guard in front of it; None (no such method) stays None."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        # Taken as streams of requests, of which there is one: so the caller is known before anything is waited for.
        make, behavior = grpc.stream_unary_rpc_method_handler, self._unary(handler.unary_unary, method)
        if handler.unary_stream is not None:
            make = grpc.stream_stream_rpc_method_handler
            behavior = self._streaming(handler.unary_stream, method)
        return make(behavior, handler.request_deserializer, handler.response_serializer)

    def _unary(self, behavior: Any, method: str) -> Any:  # grpc's types know only its synchronous handlers
        async def guarded(requests: AsyncIterator[Any], context: Context) -> Any:
            request = await self._request(method, requests, context)
            caller = await self._admit(method, request, context)

            async def check() -> None:  # a change may wait for minutes until a version is loaded
                if NEEDS[method].about is not About.OWN:  # the first token shuts the door behind whoever makes it
                    await self._admit(method, request, context)

            async def ask() -> Any:
                try:
                    return await behavior(request, context)
                except Forbidden as error:  # an RPC that looks at the rest itself
                    await self._refused(caller.name, rpc_of(method), self._model(method, request), str(error))
                    raise

            return trim(await answered(ask(), check, LOOK_S), caller.roles)

        return guarded

    def _streaming(self, behavior: Any, method: str) -> Any:
        async def guarded(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            request = await self._request(method, requests, context)
            caller = await self._admit(method, request, context)

            async def check() -> None:
                nonlocal caller
                caller = await self._admit(method, request, context)

            async with (
                aclosing(behavior(request, context)) as answers,
                aclosing(checked(answers, check, LOOK_S)) as good,
            ):
                async for answer in good:
                    if (seen := trim(answer, caller.roles)) is not None:
                        yield seen

        return guarded

    async def _request(self, method: str, requests: AsyncIterator[Any], context: Context) -> Any:
        """The request, for which nobody who is not known may take up one of the calls there are, and nobody long."""
        await self._known(rpc_of(method), None, context)
        try:
            async with asyncio.timeout(REQUEST_S):
                return await anext(requests)
        except TimeoutError:
            raise Late(f"the request did not come within {REQUEST_S:g} s") from None
        except StopAsyncIteration:
            raise InvalidRequest("the call has no request") from None

    async def _admit(self, method: str, request: Any, context: Context) -> Caller:
        """The caller, who may do this. Raises what `identity.caller` raises, and Forbidden."""
        rpc, need, model = rpc_of(method), NEEDS.get(method), self._model(method, request)
        caller = await self._known(rpc, model, context)
        if (why := refusal(caller, rpc, need, model)) is not None:
            await self._refused(caller.name, rpc, model, why)
            raise Forbidden(why)
        _caller.set(caller)
        return caller

    async def _known(self, rpc: str, model: str | None, context: Context) -> Caller:
        """The caller. Raises what `identity.caller` raises."""
        peer = _peer(context)
        try:
            return await self._keeper.caller(_authorization(context), peer)
        except Unauthenticated as error:
            await self._refused(error.caller or address(peer), rpc, model, str(error))
            raise

    def _model(self, method: str, request: Any) -> str | None:
        """The model that a call is about; None: no single one."""
        need = NEEDS.get(method)
        return model_of(need, request, self._target_of) if need else None

    async def _refused(self, caller: str, rpc: str, model: str | None, why: str) -> None:
        known = model if model and MODEL_NAME.fullmatch(model) else ""
        await self._keeper.refused(caller, _WORD.sub("-", rpc).lower(), known, why)


def rpc_of(method: str) -> str:
    """The RPC of a method with its service."""
    return method.rpartition("/")[2]


def refusal(caller: Caller, rpc: str, need: Need | None, model: str | None) -> str | None:
    """Why the caller may not do this; None: it may. Pure."""
    if need is None:
        return f"nobody may call {rpc}"
    roles = caller.roles
    anywhere = max(roles.by_model.values(), default=0)
    if need.about is About.OWN or (need.about is About.LIST and model is None):
        enough, where = anywhere >= need.role, "of a model"
    else:
        enough, where = roles.may(need.role, model), f"of {model}" if model else "of all models"
    return None if enough else f"{rpc} needs {need.role.word} {where[:200]}; {caller.name} has {roles}"


def _peer(context: Context) -> Peer:
    try:
        return peer_of(context.peer(), context.auth_context())
    except (BadPeer, ValueError):  # a name that is not to be trusted: then it has none
        return UNKNOWN_PEER


def _authorization(context: Context) -> str | None:
    """The header, which is believed to be there once: of several the last would be anybody's guess."""
    found = [value for key, value in context.invocation_metadata() or () if key == AUTHORIZATION]
    return None if not found else str(found[0]) if len(found) == 1 else ""
