from gateway.transport.grpcio.options import MAX_INT, channel_options, milliseconds
from gateway.transport.h2.limits import Limits


def test_limits_have_their_names_in_grpcio() -> None:
    limits = Limits(max_message_bytes=2**32 - 1, max_streams=7, max_header_list_bytes=5000, idle_timeout_s=2.5)
    options = dict(channel_options(limits))
    assert options["grpc.max_receive_message_length"] == MAX_INT
    assert options["grpc.max_concurrent_streams"] == 7
    assert options["grpc.max_metadata_size"] == options["grpc.absolute_max_metadata_size"] == 5000
    assert options["grpc.max_connection_idle_ms"] == 2500
    assert options["grpc.so_reuseport"] == 1


def test_every_option_is_a_number_grpcio_can_hold() -> None:
    for options in (channel_options(Limits()), channel_options(Limits(handshake_timeout_s=1e9, idle_timeout_s=1e-9))):
        assert all(-1 <= value <= MAX_INT for _, value in options)


def test_no_time_is_for_ever_and_very_little_is_a_millisecond() -> None:
    assert (milliseconds(0.0), milliseconds(0.0001), milliseconds(1.5)) == (MAX_INT, 1, 1500)


def test_clients_may_ask_whether_the_server_is_there_as_often_as_they_may_on_the_other_transport() -> None:
    options = dict(channel_options(Limits(min_ping_interval_s=10.0, min_idle_ping_interval_s=10.0, max_ping_strikes=5)))
    assert options["grpc.http2.min_ping_interval_without_data_ms"] == 10_000
    assert (options["grpc.keepalive_permit_without_calls"], options["grpc.http2.max_ping_strikes"]) == (1, 5)
    options = dict(channel_options(Limits(min_ping_interval_s=0.0, keepalive_time_s=0.0)))
    assert options["grpc.http2.min_ping_interval_without_data_ms"] == 0
    assert (options["grpc.keepalive_permit_without_calls"], options["grpc.keepalive_time_ms"]) == (0, MAX_INT)


def test_a_connections_age() -> None:
    options = dict(channel_options(Limits(max_age_s=60.0)))
    assert (options["grpc.max_connection_age_ms"], options["grpc.max_connection_age_grace_ms"]) == (60_000, MAX_INT)
