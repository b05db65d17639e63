"""`python -m loadtests.compare`."""

import sys

from loadtests.compare.cli import main

if __name__ == "__main__":
    sys.exit(main())
