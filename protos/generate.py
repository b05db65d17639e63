"""Regenerates the `*_pb2*` modules beside this file. Needs grpcio-tools (the `dev` extra).

usage: python -m protos.generate [DIRECTORY]     (default: this package)
"""

import sys
from pathlib import Path

SOURCES = ("admin", "health", "inference", "reflection", "reflection_v1alpha")
# Foreign modules define the same full names in the default pool; a second definition there is refused by protobuf.
OWN_POOL = ("health", "inference", "reflection", "reflection_v1alpha")
HERE = Path(__file__).resolve().parent


def generate(target: Path) -> None:
    """Writes `<name>_pb2.py`, `_pb2.pyi` and `_pb2_grpc.py` for every source into `target`."""
    from grpc_tools import protoc  # only developers have it

    include = Path(protoc.__file__).parent / "_proto"
    arguments = [f"--proto_path=protos={HERE}", f"--proto_path={include}"]
    out = target.parent
    outputs = [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    files = [f"protos/{name}.proto" for name in SOURCES]
    if protoc.main(["protoc", *arguments, *outputs, *files]) != 0:
        raise SystemExit("protoc failed")
    for name in OWN_POOL:
        path = target / f"{name}_pb2.py"
        text = path.read_text()
        pooled = text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()")
        if pooled == text:
            raise SystemExit(f"{path.name}: the generator's output has changed; adapt OWN_POOL's rewriting")
        path.write_text(pooled)


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE)
