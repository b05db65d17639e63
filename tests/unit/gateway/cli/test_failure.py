import pytest

from gateway.cli.failure import Exit, Failure, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8003", ("127.0.0.1", 8003)), ("gateway.prod:1", ("gateway.prod", 1)), ("[::1]:8003", ("::1", 8003))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "--admin") == address


@pytest.mark.parametrize(
    "text", ["", "8003", "host", ":8003", "host:", "host:0", "host:65536", "host:x", "::1:8003", "[]:1"]
)
def test_what_is_no_address_names_the_option(text: str) -> None:
    with pytest.raises(Failure, match=r"--admin .* is not HOST:PORT") as caught:
        parse_address(text, "--admin")
    assert caught.value.code is Exit.USAGE
