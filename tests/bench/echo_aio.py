"""The yardstick: a `grpc.aio` server that echoes bytes, no protobuf, no inference. Prints its port.

usage: python -m tests.bench.echo_aio
"""

import asyncio
import sys

import grpc

METHODS = "inference.GRPCInferenceService"


async def _echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


async def main() -> None:
    """Serves until killed."""
    server = grpc.aio.server()
    # No serializers: bytes in, bytes out.
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHODS, {"ModelInfer": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
