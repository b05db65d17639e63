from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Flood, Refusal, StreamFault


def test_faults_carry_their_code_and_words() -> None:
    assert (ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no").code, str(ConnectionFault(ErrorCode.CANCEL, "no"))) == (
        1,
        "no",
    )
    assert StreamFault(ErrorCode.STREAM_CLOSED, "late").code == 5


def test_a_refusal_is_a_grpc_status_unless_told_otherwise() -> None:
    refusal = Refusal(Code.UNIMPLEMENTED, "unknown")
    assert (refusal.code, refusal.http_status, refusal.trailers) == (Code.UNIMPLEMENTED, 200, NO_TRAILERS)


def test_a_flood_says_which_limit_it_met() -> None:
    flood = Flood("resets", "too many")
    assert (flood.code, flood.reason, str(flood)) == (ErrorCode.ENHANCE_YOUR_CALM, "resets", "too many")
