"""Bytes on a client socket. Knows RPC, not inference: services meet it only through `gateway.transport.call`."""
