import grpc

from tests.unit.gateway.cli.fake import FakeAdmin, Shell, version


def test_a_model_gets_its_first_release(cutover: Shell, admin: FakeAdmin) -> None:
    said = cutover("register", "wine", "3", "--reason", "new")
    assert said.code == 0
    assert said.out.startswith("wine: released at version 3, revision 1, in ")
    (request,) = admin.requests
    assert (request.name, request.version, request.reason, request.etag) == ("models/wine/release", 3, "new", "")
    assert request.request_id
    said = cutover("register", "wine", "3", "-o", "json", "--request-id", "id-1")
    assert (said.json["model"], said.json["request_id"]) == ("wine", "id-1")


def test_a_dry_run_only_looks(cutover: Shell, admin: FakeAdmin) -> None:
    admin.versions.append(version("wine", 3, []))
    said = cutover("register", "wine", "3", "--dry-run")
    assert "nothing was changed" in said.out
    assert admin.requests[0].validate_only
    assert cutover("register", "wine", "3", "--dry-run", "-o", "json").json["dry_run"]


def test_a_dry_run_asks_first_what_old_gateways_do_not_know(cutover: Shell, admin: FakeAdmin) -> None:
    said = cutover("register", "wine", "3", "--dry-run")
    assert (said.code, admin.requests) == (1, [])


def test_a_refusal_is_one_line(cutover: Shell, admin: FakeAdmin) -> None:
    admin.error = (grpc.StatusCode.FAILED_PRECONDITION, "wine has a release already, at revision 2")
    said = cutover("register", "wine", "3")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "has a release already" in said.err
