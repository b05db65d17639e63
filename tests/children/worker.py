"""A stand-in for a worker process: same command line, same status lines, no model.

What it does is written in the "model" file: `ok`, `fail <reason>`, `crash` (at once), `shy` (crashes once it is ready).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    """Plays the worker until SIGTERM."""
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    told, _, detail = Path(arguments["--model"]).read_text().strip().partition(" ")
    status = int(arguments["--status-fd"])

    def say(**line: object) -> None:
        os.write(status, json.dumps(line).encode() + b"\n")

    say(state="loading")
    if told == "crash":
        sys.stderr.write("out of luck\n")
        return 7
    if told == "fail":
        say(state="failed", error=detail)
        return 3
    Path(arguments["--socket"]).touch()
    tensor = {"name": "X", "datatype": "FP32", "shape": [-1, 3]}
    say(state="ready", inputs=[tensor], outputs=[tensor], batched=True, load_ms=1.0, warmup_ms=2.0, note="")
    while told != "shy":
        time.sleep(60)
    return 9


if __name__ == "__main__":
    sys.exit(main())
