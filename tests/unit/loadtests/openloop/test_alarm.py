import select
import time

from loadtests.openloop.alarm import Alarm


def test_rings_when_it_is_time_and_only_then() -> None:
    alarm = Alarm()
    try:
        alarm.heard()  # nothing to hear yet
        at_s = time.monotonic() + 0.02
        alarm.set(at_s)
        assert select.select([alarm.fd], [], [], 30)[0] == [alarm.fd]
        assert time.monotonic() >= at_s
        alarm.heard()
        assert select.select([alarm.fd], [], [], 0)[0] == []
        alarm.set(0.0)  # long ago: at once
        assert select.select([alarm.fd], [], [], 30)[0] == [alarm.fd]
    finally:
        alarm.close()
