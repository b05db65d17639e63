"""`python -m loadtests.openloop`."""

import sys

from loadtests.openloop.cli import main

if __name__ == "__main__":
    sys.exit(main())
