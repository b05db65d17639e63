"""Rows and reports say the same; the rest: tests/integration/test_members.py."""

from datetime import UTC, datetime

from gateway.controlplane.ports import Applied
from gateway.controlplane.store import schema
from gateway.controlplane.store.members import Member, Pool, Report
from gateway.controlplane.store.postgresmembers import _member, _row


def test_a_report_goes_through_a_row() -> None:
    report = Report(7, (Pool("iris", 2, shadow=True),), (Applied(1, 2.5, fenced=True, gateway="b"),), 3_000)
    row = _row(report)
    assert {"id", "incarnation", *row} == set(schema.gateways.columns.keys())
    now = datetime.now(UTC)
    found = _member(**{**row, "id": "a", "incarnation": "a1", "heartbeat": now, "age_s": 1})
    assert found == Member("a", "a1", now, 1.0, report)
