"""What can go wrong in a worker, by who is told."""

from pathlib import Path


class LoadFailed(Exception):
    """The model cannot be served: one line that names the file and the remedy. Told to the control process."""


class BadFrame(Exception):
    """The bytes are not a frame. Nobody can be answered: the connection is closed."""


class FrameError(Exception):
    """One frame cannot be answered with a result; it becomes an ERROR frame. `code` is the gRPC code in it."""

    code = 13


class Refused(FrameError):
    """The model does not take this input."""

    code = 3


class ModelFailed(FrameError):
    """The model failed while it ran."""


class Cancelled(FrameError):
    """Nobody waits for the answer any more; it was not run."""

    code = 1


class Late(FrameError):
    """The deadline had passed when its turn came; it was not run."""

    code = 4


def place(path: Path) -> str:
    """`<model>/<version>/model.onnx`: how errors name a file. Clients read them, too, and need not know more."""
    return str(Path(*path.parts[-3:]))
