"""The one place where an error of a handler becomes a gRPC status of the admin API."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import structlog

from gateway.errors import RequestError
from gateway.oip import status

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"

UNEXPECTED: Final = "internal error, see the log"

log = structlog.get_logger()
_ONE_TO_ONE: Final = grpc.unary_unary_rpc_method_handler
_ONE_TO_MANY: Final = grpc.unary_stream_rpc_method_handler
_STATUS: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}


class Statuses(grpc.aio.ServerInterceptor):
    """Wraps every handler: a RequestError becomes its code and message, the rest INTERNAL and a line in the log."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """The handler with a net under it; None (no such method) stays None."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else _ONE_TO_MANY
            behavior = _streaming(handler.stream_stream or handler.unary_stream, method)
        else:
            make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else _ONE_TO_ONE
            behavior = _unary(handler.stream_unary or handler.unary_unary, method)
        return make(behavior, handler.request_deserializer, handler.response_serializer)


def _unary(behavior: Any, method: str) -> Any:  # grpc's types know only its synchronous handlers
    async def guarded(request: Any, context: Context) -> Any:
        try:
            return await behavior(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001  # becomes a status; `_abort` logs what nobody expected
            await _abort(context, method, error)

    return guarded


def _streaming(behavior: Any, method: str) -> Any:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in behavior(request, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001  # becomes a status; `_abort` logs what nobody expected
            await _abort(context, method, error)

    return guarded


async def _abort(context: Context, method: str, error: Exception) -> NoReturn:
    if not isinstance(error, RequestError):
        log.error("admin call failed", method=method, exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, UNEXPECTED)
    trailers: list[tuple[str, str | bytes]] = [(status.DETAILS, status.details(error))]
    if error.pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(error.pushback_ms)))
    await context.abort(_STATUS[error.code], status.cut(str(error)), tuple(trailers))
