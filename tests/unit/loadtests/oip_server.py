"""A small server of the Open Inference Protocol with arms: the target of load tests that test the load test.

`python -m tests.unit.loadtests.oip_server [--delay-ms 0] [--stall-every N --stall-ms M] [--fail-every N]
[--lie-every N] [--no-arms]` prints its port. Model `digits`: stable is version 1, canary-2 and standby are version 2.
"""

import argparse
import asyncio
import signal
from typing import Any

import grpc

from protos import inference_pb2 as oip
from protos.inference_pb2_grpc import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server

ARMS = {"stable": "1", "canary-2": "2", "standby": "2"}


class Server(GRPCInferenceServiceServicer):
    """Answers with the number of features it got."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.calls = 0
        self.free = asyncio.Event()
        self.free.set()

    async def ServerLive(self, request: Any, context: Any) -> oip.ServerLiveResponse:  # noqa: N802 - the protocol's name
        return oip.ServerLiveResponse(live=True)

    async def ModelMetadata(self, request: Any, context: Any) -> oip.ModelMetadataResponse:  # noqa: N802 - the protocol's name
        if request.name != "digits":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name!r}")
        tensor = oip.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 4])
        return oip.ModelMetadataResponse(name="digits", versions=["1", "2"], inputs=[tensor])

    async def ModelInfer(self, request: Any, context: Any) -> oip.ModelInferResponse:  # noqa: N802 - the protocol's name
        metadata = dict(context.invocation_metadata())
        arm = metadata.get("cutover-arm", "stable")
        if arm not in ARMS or not {"cutover-arm", "x-user-id"} & metadata.keys():
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"no arm {arm!r}")
        self.calls += 1
        await self.misbehave(context)
        lies = self.options.lie_every and self.calls % self.options.lie_every == 0
        if not self.options.no_arms:
            context.set_trailing_metadata((("cutover-arm", arm),))
        version = "9" if lies else ARMS[arm]
        return oip.ModelInferResponse(model_name=request.model_name, model_version=version)

    async def misbehave(self, context: Any) -> None:
        options = self.options
        if options.stall_every and self.calls % options.stall_every == 0:
            self.free.clear()
            await asyncio.sleep(options.stall_ms / 1e3)
            self.free.set()
        await self.free.wait()
        if options.delay_ms:
            await asyncio.sleep(options.delay_ms / 1e3)
        if options.fail_every and self.calls % options.fail_every == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full")


async def serve(options: argparse.Namespace) -> None:
    server = grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(Server(options), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)  # noqa: T201 - how its parent learns the port
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for flag in ("--delay-ms", "--stall-every", "--stall-ms", "--fail-every", "--lie-every"):
        parser.add_argument(flag, type=float, default=0)
    parser.add_argument("--no-arms", action="store_true")
    asyncio.run(serve(parser.parse_args()))
