import pytest

from gateway.cli.failure import Exit
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import Shell

LIVES = pb.Gateway(gateway="a", applied_sequence=7, heard_ms=250.0, lease_ms=10_000, answering=True)
SILENT = pb.Gateway(gateway="b:8001", applied_sequence=6, heard_ms=61_000.0, silent=True)


def test_gateways_are_listed_with_what_they_serve(cutover: Shell) -> None:
    cutover.admin.gateways = [LIVES, SILENT]
    lines = cutover("gateways", "list").out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["a", "lives,", "answers", "change", "7", "250", "ms", "ago", "stops", "after", "10", "s"],
        ["b:8001", "silent", "change", "6", "61", "s", "ago", "serves", "on"],
    ]
    assert cutover("gateways", "list", "-o", "json").json["gateways"][1]["silent"] is True


def test_a_store_that_nobody_shares_has_no_list(cutover: Shell) -> None:
    assert "shares its store with nobody" in cutover("gateways", "list").out


def test_a_gateway_is_fenced_with_a_reason(cutover: Shell) -> None:
    result = cutover("gateways", "fence", "b:8001", "--reason", "its machine is off")
    assert result.out == "b:8001: fenced, changes do not wait for it any more\n"
    (request,) = cutover.admin.requests
    assert (request.name, request.reason) == ("gateways/b:8001", "its machine is off")


@pytest.mark.parametrize("arguments", [("fence", "b"), ("fence", "--reason", "dead")])
def test_fencing_needs_a_gateway_and_a_reason(cutover: Shell, arguments: tuple[str, ...]) -> None:
    assert cutover("gateways", *arguments).code == Exit.USAGE
