"""The examples of RFC 7541, appendix C: blocks, what they say, and the dynamic table after them."""

import pytest

from gateway.transport.h2.hpack import Decoder, Field

AUTHORITY = (b":authority", b"www.example.com")
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
NO_CACHE = (b"cache-control", b"no-cache")
CUSTOM = (b"custom-key", b"custom-value")
PRIVATE = (b"cache-control", b"private")
LOCATION = (b"location", b"https://www.example.com")
DATE = (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT")
LATER = (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT")
GZIP = (b"content-encoding", b"gzip")
COOKIE = (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")
FOUND, MOVED, OK = (b":status", b"302"), (b":status", b"307"), (b":status", b"200")

REQUESTS = [
    ([*GET, AUTHORITY], [AUTHORITY], 57),
    ([*GET, AUTHORITY, NO_CACHE], [NO_CACHE, AUTHORITY], 110),
    (
        [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), AUTHORITY, CUSTOM],
        [CUSTOM, NO_CACHE, AUTHORITY],
        164,
    ),
]
REPLIES = [
    ([FOUND, PRIVATE, DATE, LOCATION], [LOCATION, DATE, PRIVATE, FOUND], 222),
    ([MOVED, PRIVATE, DATE, LOCATION], [MOVED, LOCATION, DATE, PRIVATE], 222),
    ([OK, PRIVATE, LATER, LOCATION, GZIP, COOKIE], [COOKIE, GZIP, LATER], 215),
]
C3 = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
C4 = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]
C5 = [
    (
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e17"
        "68747470733a2f2f7777772e6578616d706c652e636f6d"
    ),
    "4803333037c1c0bf",
    (
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b"
        "425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31"
    ),
]
C6 = [
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    (
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f"
        "3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
    ),
]


def dynamic(decoder: Decoder) -> list[Field]:
    """The dynamic table, newest first."""
    return [(entry.name, entry.value) for entry in decoder._table[62:]]


@pytest.mark.parametrize(
    ("block", "field", "table"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header"), 1),
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), 0),
        ("100870617373776f726406736563726574", (b"password", b"secret"), 0),  # never indexed
        ("82", (b":method", b"GET"), 0),
    ],
)
def test_each_kind_of_field_as_in_c2(block: str, field: Field, table: int) -> None:
    decoder = Decoder()
    assert decoder.decode(bytes.fromhex(block)) == [field]
    assert dynamic(decoder) == [field] * table


@pytest.mark.parametrize(
    ("table_bytes", "blocks", "expected"),
    [(4096, C3, REQUESTS), (4096, C4, REQUESTS), (256, C5, REPLIES), (256, C6, REPLIES)],
    ids=["C.3", "C.4", "C.5", "C.6"],
)
def test_sequences_of_blocks_as_in_c3_to_c6(
    table_bytes: int, blocks: list[str], expected: list[tuple[list[Field], list[Field], int]]
) -> None:
    decoder = Decoder(table_bytes)
    for block, (fields, table, used_bytes) in zip(blocks, expected, strict=True):
        assert decoder.decode(bytes.fromhex(block)) == fields
        assert dynamic(decoder) == table
        assert decoder._used_bytes == used_bytes
