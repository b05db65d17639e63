"""The second transport: the same service behind grpcio's own server (`grpc.aio`).

A thin shell. What clients may notice of the choice is listed in tests/conformance/README.md.
"""
