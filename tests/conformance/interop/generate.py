"""Regenerates `interop_pb2.py` and `.pyi` beside this file. Needs grpcio-tools (the `dev` extra).

usage: python -m tests.conformance.interop.generate [DIRECTORY]     (default: this folder)
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def generate(target: Path) -> None:
    """Writes both files into `target`."""
    from grpc_tools import protoc  # only developers have it

    arguments = [f"--proto_path={HERE}", f"--python_out={target}", f"--pyi_out={target}", "interop.proto"]
    if protoc.main(["protoc", *arguments]) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE)
