"""A flip or rollback in the middle of a stream of requests: what is promised, and whether it held."""

import time
from collections import Counter
from collections.abc import Mapping

from loadtests.demo.scene import MODEL, USERS, Scene, versions
from loadtests.demo.traffic import Stream, streaming

AROUND = 500
"""Requests to see before and after the change."""


def under_traffic(scene: Scene, verb: str, before: set[str], after: Mapping[str, str]) -> None:
    """Runs `cutover <verb>` while all clients ask without a pause.

    `before` holds the versions that may answer until the command runs, `after` the one that must answer each user whose
    request is sent once the command has returned. Raises DemoFailed when that, or any single request, fails.
    """
    with streaming(scene.asking, USERS, len(scene.digits.labels)) as stream:
        stream.wait_for(AROUND)
        began_s = time.monotonic()
        scene.run(verb, MODEL, "--reason", "demo")
        returned_s = time.monotonic()
        stream.wait_for(AROUND)
    _show(scene, stream, began_s, returned_s)
    failed = [answer.error for answer in stream.answers if answer.error]
    scene.expect(not failed, f"{len(failed)} requests failed during the {verb}, such as {failed[:1]}")
    scene.screen.held(f"{len(stream.answers):,} requests, none failed")
    early = versions([answer for answer in stream.answers if answer.done_s < began_s])
    scene.expect(early <= before, f"before the {verb}, versions {sorted(early)} answered")
    late = [answer for answer in stream.answers if answer.sent_s > returned_s]
    wrong = [answer for answer in late if answer.version != after[answer.user]]
    scene.expect(
        not wrong, f"{len(wrong)} requests sent after the {verb} had returned met another version: {wrong[:1]}"
    )
    whose = (
        "version " + next(iter(set(after.values())))
        if len(set(after.values())) == 1
        else "the version of before the flip"
    )
    scene.screen.held(f"all {len(late):,} requests sent after it had returned were answered by {whose}")


def _show(scene: Scene, stream: Stream, began_s: float, returned_s: float) -> None:
    """Requests by when they were sent and who answered."""
    parts = {
        "before": [answer for answer in stream.answers if answer.sent_s < began_s],
        "meanwhile": [answer for answer in stream.answers if began_s <= answer.sent_s <= returned_s],
        "after it returned": [answer for answer in stream.answers if answer.sent_s > returned_s],
    }
    rows = []
    for name, answers in parts.items():
        found = Counter(answer.version for answer in answers)
        rows.append((name, len(answers), found["1"], found["2"], found[""]))
    scene.screen.table(("sent", "requests", "by version 1", "by version 2", "failed"), rows)
