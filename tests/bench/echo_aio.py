"""The yardstick: a `grpc.aio` server that echoes bytes, no protobuf, no inference. Prints its port.

usage: python -m tests.bench.echo_aio [CERTIFICATE KEY]     PEM files: serves TLS
"""

import asyncio
import sys
from pathlib import Path

import grpc

from tests.bench.echo import BIDI, COUNT, MANY, SERVICE, UNARY

Context = grpc.aio.ServicerContext[bytes, bytes]


async def _unary(request: bytes, context: Context) -> bytes:
    return request


# Reading and writing by the context is what the iterators of grpc.aio wrap; it is the faster way.
async def _bidi(request_iterator: object, context: Context) -> None:
    end: object = grpc.aio.EOF
    while (message := await context.read()) is not end:
        await context.write(message)


async def _many(request: bytes, context: Context) -> None:
    for _ in range(COUNT.unpack_from(request)[0]):
        await context.write(request)


def _methods() -> grpc.GenericRpcHandler:
    """No serializers: bytes in, bytes out."""
    unary: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_unary)
    bidi: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_bidi)
    many: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(_many)
    handlers = {UNARY: unary, BIDI: bidi, MANY: many}
    return grpc.method_handlers_generic_handler(
        SERVICE, {path.rpartition("/")[2]: each for path, each in handlers.items()}
    )


async def main(pair: list[bytes]) -> None:
    """Serves until killed, TLS with a certificate and a key."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_methods(),))
    if pair:
        certificate, key = pair
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main([Path(name).read_bytes() for name in sys.argv[1:]]))
