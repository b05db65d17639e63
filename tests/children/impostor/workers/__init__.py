"""Before the real package on PYTHONPATH, it has everything of that but the program."""

import sys
from pathlib import Path

__path__ += [str(Path(entry) / "workers") for entry in sys.path if (Path(entry) / "workers" / "wire.py").is_file()]
