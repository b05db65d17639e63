"""HTTP/2 (RFC 9113) server with gRPC unary framing.

Everything but `protocol` and `server` is sans-I/O: bytes in, bytes out.
"""
