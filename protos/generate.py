"""Regenerates the `*_pb2*` modules beside this file. Needs grpcio-tools (the `dev` extra).

usage: python -m protos.generate [DIRECTORY]     (default: this package)
"""

import shutil
import sys
import tempfile
from pathlib import Path

SOURCES = ("admin", "health", "inference", "reflection", "reflection_v1alpha")
# Foreign modules define the same full names in the default pool; a second definition there is refused by protobuf.
OWN_POOL = ("health", "inference", "reflection", "reflection_v1alpha")
HERE = Path(__file__).resolve().parent


def compile_protos(*outputs: str) -> None:
    """Runs protoc over all sources, with options that say what it is to write."""
    from google.longrunning import operations_pb2
    from grpc_tools import protoc  # only developers have it

    include, google = Path(protoc.__file__).parent / "_proto", Path(operations_pb2.__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        # Google's package has this file under another name than everybody imports it by.
        operations = Path(scratch) / operations_pb2.DESCRIPTOR.name
        operations.parent.mkdir(parents=True)
        shutil.copy(google / "operations_proto.proto", operations)
        paths = [f"--proto_path={path}" for path in (f"protos={HERE}", include, scratch, google.parents[1])]
        files = [f"protos/{name}.proto" for name in SOURCES]
        if protoc.main(["protoc", *paths, *outputs, *files]) != 0:
            raise SystemExit("protoc failed")


def generate(target: Path) -> None:
    """Writes `<name>_pb2.py`, `_pb2.pyi` and `_pb2_grpc.py` for every source into `target`."""
    out = target.parent
    compile_protos(f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}")
    for name in OWN_POOL:
        path = target / f"{name}_pb2.py"
        text = path.read_text()
        pooled = text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()")
        if pooled == text:
            raise SystemExit(f"{path.name}: the generator's output has changed; adapt OWN_POOL's rewriting")
        path.write_text(pooled)


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE)
