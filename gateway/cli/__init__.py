"""The `cutover` command: serves a gateway, and reads and changes the releases of a running one.

Exit codes: 0 done, 1 the gateway refused, 2 wrong usage or cannot start, 3 the gateway cannot be reached, 4 the load
test missed its SLO, 5 `apply --dry-run` found a difference, 130 interrupted. An error is one line on stderr. Commands
import what they need when they run, so that help is instant.
"""

import sys


def main() -> None:
    """The console script: runs the command line and exits with its code."""
    try:
        from gateway.cli.root import run
    except KeyboardInterrupt:  # importing takes long enough to be interrupted
        sys.exit(130)
    sys.exit(run())
