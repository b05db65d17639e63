from gateway.cli.chain import broken
from tests.unit.gateway.cli.fake import FakeAdmin
from tests.unit.gateway.cli.test_auditing import log


def test_a_whole_chain_is_not_broken_and_one_with_a_hole_is() -> None:
    admin = FakeAdmin()
    assert broken(admin.events) is None
    log(admin, 5)
    assert broken(admin.events) is None
    del admin.events[2]
    assert broken(admin.events) == "audit event 3 is missing: 4 follows 2"
