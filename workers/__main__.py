"""`python -m workers`: loads one model, warms it up, says so, and serves it over a Unix socket.

Exit codes: 0 after SIGTERM (or when the control process and all proxies are gone), 2 wrong arguments, 3 the model
cannot be served; the status line says why.
"""

import argparse
import contextlib
import gc
import os
import signal
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from workers.errors import LoadFailed, place
from workers.status import Status

if TYPE_CHECKING:
    from workers.loop import Loop

USAGE = 2
FAILED = 3
ENVIRONMENT = {
    # numpy's BLAS would start a thread per core, and no call of ours uses it.
    "OPENBLAS_NUM_THREADS": "1",
    # Official builds of onnxruntime send events to their maker unless this is set (its Privacy.md).
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Has to be set before numpy and onnxruntime are imported."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a worker and returns its exit code."""
    # Ctrl-C reaches the whole process group; the control process decides who stops when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    options = _parse(arguments)
    try:
        status = Status(options.status_fd)
    except OSError as error:
        sys.stderr.write(f"workers: --status-fd {options.status_fd}: {error.strerror}; pass an open descriptor\n")
        return USAGE
    status.loading()
    if options.idle:
        _yield_to_production()
    os.environ.update(ENVIRONMENT)
    try:
        loop = _start(options, status)
    except LoadFailed as error:
        status.failed(str(error))
        return FAILED
    except Exception as error:  # noqa: BLE001 - whoever reads the status must get a line, whatever happened
        status.failed(f"{place(options.model)}: {type(error).__name__}: {error}")
        return FAILED
    try:
        loop.run()
    finally:
        options.socket.unlink(missing_ok=True)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers", description="Serves one ONNX model on a Unix socket.")
    parser.add_argument("--model", type=Path, required=True, help="the model.onnx to serve")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--status-fd", type=int, required=True, help="open descriptor that gets status lines (JSON)")
    parser.add_argument("--threads", type=_positive, default=1, help="ONNX Runtime's threads (default 1)")
    parser.add_argument("--max-batch-size", type=_positive, default=64, help="rows of the largest warm-up batch")
    parser.add_argument("--batching", choices=("auto", "off"), default="auto", help="whether requests may be joined")
    parser.add_argument("--max-memory", type=_positive, help="bytes it may hold (default: any)")
    parser.add_argument("--idle", action="store_true", help="run only when nothing else wants the CPU (shadows)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def _yield_to_production() -> None:
    """Idle CPU priority, for this thread and those it will start; where that is not permitted, as much as is."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 19)


def _start(options: argparse.Namespace, status: Status) -> "Loop":
    """Loads, warms up, listens and says "ready". Raises LoadFailed."""
    # Imported here so that the control process hears "loading" before the slow imports.
    from workers.footprint import limit
    from workers.loop import Loop, listen
    from workers.service import Service
    from workers.session import load
    from workers.warmup import warm_up

    started_s = perf_counter()
    model = load(options.model, options.threads, hoards=options.max_memory is None)
    loaded_s = perf_counter()
    # Not limited before: loading takes several times what a loaded model holds, for a moment.
    if not limit(options.max_memory):
        raise LoadFailed(_too_large(options))
    try:
        warm = warm_up(model, batching=options.batching == "auto", max_batch_size=options.max_batch_size)
    except MemoryError as error:
        raise LoadFailed(_too_large(options)) from error
    facts = {
        "batched": warm.batched,
        "load_ms": round((loaded_s - started_s) * 1000, 1),
        "warmup_ms": round((perf_counter() - loaded_s) * 1000, 1),
        "note": warm.note,
        "costs": warm.costs,
    }
    try:
        listener = listen(options.socket)
    except OSError as error:
        raise LoadFailed(
            f"{options.socket}: cannot listen: {error}; pass a short path in a writable directory"
        ) from error
    loop = Loop(Service(model, warm), listener, status.fd)
    loop.catch_sigterm()
    # Everything that lives now lives on; serving makes no cycles worth a frequent search.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    status.ready(inputs=model.inputs, outputs=warm.outputs, facts=facts)
    return loop


def _too_large(options: argparse.Namespace) -> str:
    return (
        f"{place(options.model)}: needs more memory than a worker may hold, {options.max_memory >> 20} MiB; "
        "raise max_memory"
    )


if __name__ == "__main__":
    sys.exit(main())
