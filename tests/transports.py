"""What is expected where the two transports differ."""

from typing import TypeVar

T = TypeVar("T")


def differs(name: str, transport: str, *, h2: T, grpcio: T) -> T:
    """What is expected on a transport; `name` is a row of "Two transports, one behaviour" in conformance/README.md."""
    assert name
    return {"h2": h2, "grpcio": grpcio}[transport]
