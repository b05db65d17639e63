"""One process's share of a load."""

import json
from collections.abc import Callable

from tests.unit.loadtests.target import Serve

SCRIPT = """
import json
from gevent import monkey; monkey.patch_all()
from grpc.experimental.gevent import init_gevent; init_gevent()
import time
import gevent
from dataclasses import replace
from loadtests.drive import Drive
from tests.unit.loadtests.samples import settings

wanted = replace(settings(), suite="steady", target=TARGET, model="digits", rows=None)
wanted = replace(wanted, rate=100, duration_s=0.5, warmup_s=0.1)
shares = []
for index in range(2):
    drive = Drive(wanted, index, 2)

    def user():
        asker = drive.next_asker()
        while (arrival := drive.pacer.take()) is not None:
            sent_s = time.perf_counter() - drive.pacer.start_s
            drive.in_flight += 1
            outcome = asker.ask(arrival.number)
            drive.in_flight -= 1
            done_s = time.perf_counter() - drive.pacer.start_s
            drive.recorder.record(arrival.stage, arrival.at_s, sent_s, done_s, outcome)

    users = [gevent.spawn(user) for _ in range(8)]
    drive.begin()
    drive.finish()
    gevent.joinall(users)
    shares.append(drive.measurement().to_json())
    drive.close()
print(json.dumps(shares))
"""


def test_shares_of_a_load_add_up(serve: Serve, in_locust: Callable[[str], str]) -> None:
    from loadtests.measurement import Measurement

    shares = json.loads(in_locust(SCRIPT.replace("TARGET", repr(serve()))))
    whole = Measurement()
    for share in shares:
        assert not share["error"]
        whole.merge(Measurement.from_json(share))
    warm_up, steady = whole.recorder.tallies
    assert (warm_up.intended, steady.intended) == (10, 50)
    assert steady.outcomes == {"OK": 50}
    assert steady.pacing.count == 50
    assert 0 < steady.pacing.max_us <= steady.delay.max_us
    assert whole.conditions["arm"] == "canary-2"
    assert whole.conditions["rows"]["synthetic"]
    assert whole.conditions["processes"] == 2
