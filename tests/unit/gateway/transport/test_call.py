import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.call import PEER_ADDRESS, PEER_IDENTITY, UNKNOWN_PEER, Metadata, Peer


def test_a_peer_tells_only_what_is_known() -> None:
    assert UNKNOWN_PEER.values == {}
    assert Peer("127.0.0.1:1").values == {PEER_ADDRESS: "127.0.0.1:1"}
    assert Peer("unix:", "spiffe://x/y", encrypted=True).values == {
        PEER_ADDRESS: "unix:",
        PEER_IDENTITY: "spiffe://x/y",
    }


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), st.booleans())
def test_binary_metadata_is_read_with_and_without_padding(values: list[bytes], padded: bool) -> None:
    texts = [base64.b64encode(value).decode() for value in values]
    joined = ",".join(text if padded else text.rstrip("=") for text in texts)
    assert Metadata("/", {"x-bin": joined}, None, None).binary("x-bin") == values


def test_absent_binary_metadata_is_empty() -> None:
    assert Metadata("/", {}, None, None).binary("x-bin") == []


@pytest.mark.parametrize("text", ["!", "a", "ab$d", "é"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"base64|ASCII"):
        Metadata("/", {"x-bin": text}, None, None).binary("x-bin")
