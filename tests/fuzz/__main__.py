"""Runs a fuzz target, guided by coverage: `python -m tests.fuzz connection|hpack [FOLDER|FILE] [libFuzzer options]`.

FOLDER keeps the corpus (default: a temporary one); FILE is one input to run again. Needs atheris, the extra `fuzz`.
"""

import importlib
import logging
import sys
import tempfile
from pathlib import Path

TARGETS = ("connection", "hpack")


def main(arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    if not arguments or arguments[0] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {'|'.join(TARGETS)} [FOLDER|FILE] [libFuzzer options]")
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed; run: pip install -e '.[dev,fuzz]'")
    logging.disable()
    with atheris.instrument_imports(include=["gateway.transport.h2"]):
        target = importlib.import_module(f"tests.fuzz.fuzz_{arguments[0]}")
    paths = [each for each in arguments[1:] if not each.startswith("-")]
    options = [each for each in arguments[1:] if each.startswith("-")]
    corpus = Path(paths[0] if paths else tempfile.mkdtemp(prefix=f"fuzz-{arguments[0]}-"))
    if not corpus.is_file():
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
