"""A clock that rings on time: the loops' own timers count whole milliseconds, the kernel's timerfd does not."""

import ctypes
import os
from typing import Final

_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_Times = ctypes.c_long * 4
"""struct itimerspec: the interval's and the first expiry's seconds and nanoseconds."""


class Alarm:
    """Makes `fd` readable at the time set last, in seconds of `time.monotonic`. Linux."""

    def __init__(self) -> None:
        """Raises OSError where there is no such timer."""
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "timerfd_create"):
            raise OSError("this system has no timerfd: the load generator needs Linux")
        self._settime = libc.timerfd_settime
        self._times = _Times()
        self.fd: int = libc.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, at_s: float) -> None:
        """Rings at this time, at once if it has passed."""
        seconds = int(at_s)
        self._times[2] = seconds
        self._times[3] = max(1, int((at_s - seconds) * 1e9))  # all zero would switch it off
        self._settime(self.fd, _ABSOLUTE, self._times, None)

    def heard(self) -> None:
        """Makes `fd` unreadable again."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return  # set anew in the meantime

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self.fd)
