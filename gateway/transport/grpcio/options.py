"""What a listener's limits are called in grpcio (grpc/grpc include/grpc/impl/channel_arg_names.h)."""

from typing import Final

from gateway.transport.h2.limits import Limits

MAX_INT: Final = 2**31 - 1
"""The largest value of a channel argument; for durations: never."""
COMPRESS_AS_ACCEPTED: Final = 1
"""GRPC_COMPRESS_LEVEL_LOW: gzip or deflate, whichever the caller accepts, on messages that do not say no."""


def channel_options(limits: Limits) -> list[tuple[str, int]]:
    """Channel arguments of a server with these limits. What has no counterpart is in tests/conformance/README.md."""
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.default_compression_level", COMPRESS_AS_ACCEPTED),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_receive_message_length", min(limits.max_message_bytes, MAX_INT)),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", limits.max_streams),
        # It counts calls until grpcio has forgotten them, and so refuses clients that use the limit above to the full.
        # Without it a flood of resets costs others their calls; against floods there is the other transport.
        ("grpc.http.overload_protection", 0),
        # Between the two grpcio refuses at random: that is for who watches a fleet grow into its limit.
        ("grpc.max_metadata_size", limits.max_header_list_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_header_list_bytes),
        ("grpc.http2.max_frame_size", limits.max_frame_bytes),
        ("grpc.http2.lookahead_bytes", limits.stream_window_bytes),
        ("grpc.server_handshake_timeout_ms", milliseconds(limits.handshake_timeout_s)),
        ("grpc.max_connection_idle_ms", milliseconds(limits.idle_timeout_s)),
        ("grpc.max_connection_age_ms", milliseconds(limits.max_age_s)),
        ("grpc.max_connection_age_grace_ms", milliseconds(limits.max_age_grace_s)),
        *_pings(limits),
    ]


def _pings(limits: Limits) -> list[tuple[str, int]]:
    """Either idle connections are like others, or clients may ask once in two hours and the server does not."""
    idle_alike = limits.min_idle_ping_interval_s <= limits.min_ping_interval_s
    return [
        ("grpc.keepalive_time_ms", milliseconds(limits.keepalive_time_s)),
        ("grpc.keepalive_timeout_ms", milliseconds(limits.keepalive_timeout_s)),
        ("grpc.http2.ping_timeout_ms", milliseconds(limits.keepalive_timeout_s)),  # else a minute
        ("grpc.keepalive_permit_without_calls", int(idle_alike)),
        ("grpc.http2.min_ping_interval_without_data_ms", min(round(limits.min_ping_interval_s * 1000), MAX_INT)),
        ("grpc.http2.max_ping_strikes", limits.max_ping_strikes),
    ]


def milliseconds(seconds: float) -> int:
    """A duration as grpcio takes it; 0 is for ever."""
    return min(max(1, round(seconds * 1000)), MAX_INT) if seconds else MAX_INT
