"""nginx in front of a gRPC server, splitting by user id and nothing else: what a split costs a proxy in C."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from loadtests.bench import processes
from loadtests.bench.errors import BenchError
from loadtests.compare.peers import Running, Site

NGINX: Final = "nginx"
START_S: Final = 10.0


def configuration(folder: Path, port: int, backend: int, *, kept: bool) -> str:
    """nginx.conf: one worker, a tenth of the users to the other upstream, which here is the same server.

    kept: connections to it are kept; else each request opens one, as nginx does before 1.29.7 unless it is told to.
    """
    keeping = " keepalive 256; keepalive_requests 1000000000;" if kept else ""
    upstream = f"{{ server 127.0.0.1:{backend};{keeping} }}"
    return f"""worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  split_clients "$http_x_user_id" $arm {{ 10% green; * blue; }}
  upstream blue {upstream}
  upstream green {upstream}
  server {{
    listen 127.0.0.1:{port} http2;
    http2_max_concurrent_streams 128;
    location / {{ grpc_pass grpc://$arm; }}
  }}
}}
"""


@contextmanager
def splitting(site: Site, backend: int, *, kept: bool) -> Iterator[Running]:
    """Runs until the end of the block; `kept` as of `configuration`. Raises BenchError."""
    if shutil.which(NGINX) is None:
        raise BenchError("nginx is missing; install it (Debian: apt-get install nginx-light) and run again")
    folder = site.folder / NGINX
    folder.mkdir(exist_ok=True)
    (port,) = processes.free_ports(1)
    (folder / "nginx.conf").write_text(configuration(folder, port, backend, kept=kept))
    command = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    log = site.log(NGINX)
    with processes.running(command, log) as process:
        processes.wait_for_port(port, process, log, START_S)
        yield Running(NGINX, "", port, process.pid)


def workers(running: Running) -> list[int]:
    """The processes that do the work: all but the master."""
    return [pid for pid in running.processes() if pid != running.pid]
