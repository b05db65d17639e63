"""`python -m loadtests.demo`."""

import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from loadtests.demo.scene import DemoFailed
from loadtests.demo.screen import Screen
from loadtests.demo.story import Story


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Tells the story; 0 when every step held, 1 when one did not, 130 when interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    screen = Screen()
    try:
        with tempfile.TemporaryDirectory(prefix="cutover-demo-", ignore_cleanup_errors=True) as folder:
            Story(Path(folder), screen).tell()
    except DemoFailed as error:
        screen.failed(str(error))
        return 1
    except KeyboardInterrupt:
        screen.say("Interrupted; everything the demo started has been stopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
