"""`python -m loadtests.overload`."""

import sys

from loadtests.overload.cli import main

if __name__ == "__main__":
    sys.exit(main())
