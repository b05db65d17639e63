"""A store as the first Cutover wrote it, before there were revisions, kinds of events and an order of changes."""

import sqlite3
from pathlib import Path

from gateway.controlplane import audit

TABLES = """
CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE releases (
    model VARCHAR(255) NOT NULL, revision BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (model)
);
CREATE TABLE audit (
    sequence BIGINT NOT NULL, time_ms BIGINT NOT NULL, actor TEXT NOT NULL, verb TEXT NOT NULL,
    model VARCHAR(255) NOT NULL, revision BIGINT NOT NULL, reason TEXT NOT NULL, request_id TEXT NOT NULL,
    before TEXT NOT NULL, "after" TEXT NOT NULL, hash VARCHAR(64) NOT NULL, PRIMARY KEY (sequence),
    UNIQUE (model, revision)
);
CREATE INDEX audit_by_model ON audit (model, sequence);
CREATE TABLE requests (
    request_id VARCHAR(255) NOT NULL, fingerprint VARCHAR(64) NOT NULL, time_ms BIGINT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (request_id)
);
INSERT INTO schema_version VALUES (1);
"""
EVENT = (
    "INSERT INTO audit VALUES (:sequence, :time_ms, :actor, :verb, :model, :revision, :reason, :request_id, :before, "
    ":after, :hash)"
)
BODY = (
    '{"model":"%s","revision":2,"policy":{"stable":1,"canaries":[],"shadows":[{"version":2,"rate":0.25}],'
    '"standby":null,"salt":"","overrides":{}},"rollback":null,"updated_ms":7}'
)
AFTER = BODY.replace(',"overrides":{}', "").replace('"revision":2', '"revision":%d')


def version_1(path: Path) -> list[audit.AuditEvent]:
    """Makes the file, with the models iris and wine at revision 2, and returns its events."""
    events: list[audit.AuditEvent] = []
    file = sqlite3.connect(path)
    file.executescript(TABLES)
    for model in ("iris", "wine"):
        for revision in (1, 2):
            told = AFTER % (model, revision)
            event = audit.Draft(7, "ada", "set-shadow", model, revision, "why", f"{model}-{revision}", "", told)
            events.append(audit.link(events[-1].hash if events else audit.GENESIS, len(events) + 1, event))
            file.execute(EVENT, {name: getattr(events[-1], name) for name in audit.AuditEvent.__struct_fields__})
        file.execute("INSERT INTO releases VALUES (?, 2, ?)", (model, BODY % model))
        file.execute("INSERT INTO requests VALUES (?, 'print', 7, ?)", (f"{model}-2", BODY % model))
    file.commit()
    file.close()
    return events
