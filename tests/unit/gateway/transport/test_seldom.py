from gateway.transport.seldom import Seldom


def test_each_kind_is_said_once_in_a_while_with_what_was_swallowed() -> None:
    seldom = Seldom(60.0)
    assert seldom.line("tls", "first", 0.0) == "first"
    assert seldom.line("files", "other", 0.0) == "other"
    assert [seldom.line("tls", "again", float(second)) for second in (1, 2, 59)] == [None] * 3
    assert seldom.line("tls", "later", 60.0) == "later (and 3 more like this before)"
    assert seldom.line("tls", "again", 61.0) is None
    assert seldom.line("tls", "last", 200.0) == "last (and 1 more like this before)"
