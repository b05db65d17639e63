"""`make bench`: the gateway beside a grpc.aio echo and ONNX Runtime in a loop, in one run on one machine."""
