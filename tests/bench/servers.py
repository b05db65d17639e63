"""Echo servers in processes of their own, stopped whatever happens."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import BenchError
from tests.serving import cpu_s

ROOT = Path(__file__).parents[2]
STOP_S = 5
TRANSPORT = "tests.bench.echo_h2"
GRPC_AIO = "tests.bench.echo_aio"


@dataclass(frozen=True)
class Echo:
    """A running echo server."""

    name: str
    pid: int
    port: int

    @property
    def cpu_s(self) -> float:
        """CPU time so far, all threads."""
        return cpu_s(self.pid)

    @property
    def resident_bytes(self) -> int:
        """Memory the process holds now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) << 10


@contextmanager
def echo_server(name: str, module: str, *arguments: str, root: Path = ROOT) -> Iterator[Echo]:
    """Runs `python -m module arguments` in the checkout `root` until the end of the block.

    Raises BenchError when it does not come up. In a session of its own: Ctrl-C reaches the bench, which stops it.
    """
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line.isdigit():
                raise BenchError(f"{name} ({' '.join(command[1:])} in {root}) did not print its port: {line!r}")
            yield Echo(name, process.pid, int(line))
            if process.poll() is not None:
                raise BenchError(f"{name} ended by itself with {process.returncode}")
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key (PEM, P-256). Raises BenchError without openssl."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        raise BenchError("openssl is missing; install it (Debian: apt-get install openssl) and run again") from None
    except subprocess.CalledProcessError as error:
        raise BenchError(f"openssl made no certificate: {error.stderr.decode(errors='replace')[-300:]}") from None
    return certificate, key
