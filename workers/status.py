"""What a worker tells the control process: JSON lines on an inherited descriptor."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any


class Status:
    """Writes status lines. A reader that has gone is no reason to stop: the proxies are still served."""

    def __init__(self, fd: int) -> None:
        """Raises OSError when the descriptor is not open."""
        os.fstat(fd)
        os.set_inheritable(fd, False)
        self.fd = fd

    def loading(self) -> None:
        """The process is up; the model is being loaded."""
        self._write({"state": "loading"})

    def ready(self, *, inputs: Iterable[Any], outputs: Iterable[Any], facts: Mapping[str, object]) -> None:
        """The socket listens. `facts`: batched, load_ms, warmup_ms, note, costs."""
        self._write({"state": "ready", "inputs": _rows(inputs), "outputs": _rows(outputs), **facts})

    def failed(self, error: str) -> None:
        """The model cannot be served; `error` is one line."""
        self._write({"state": "failed", "error": " ".join(error.split())})

    def _write(self, message: Mapping[str, object]) -> None:
        line = json.dumps(message).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self.fd, line) :]
        except OSError:
            pass


def _rows(tensors: Iterable[Any]) -> list[dict[str, object]]:
    return [{"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)} for tensor in tensors]
