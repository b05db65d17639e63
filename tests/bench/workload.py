"""What the bench serves and sends; see `loadtests.bench.workload`."""

from loadtests.bench.workload import CANDIDATE, MODEL, make_models, write_payload

__all__ = ["CANDIDATE", "MODEL", "make_models", "write_payload"]
