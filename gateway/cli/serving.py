"""Commands about a gateway as a process: serve, health, config."""

import http.client
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.command import Output, OutputOption, command
from gateway.cli.failure import Exit, Failure, parse_address

app = typer.Typer()
config = typer.Typer(help="The configuration file of `cutover serve`.")
app.add_typer(config, name="config")


class LogFormat(StrEnum):
    """How the control process logs."""

    TEXT = "text"
    JSON = "json"


class Transport(StrEnum):
    """Who serves clients."""

    H2 = "h2"
    GRPCIO = "grpcio"


class LogLevel(StrEnum):
    """What the control process logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _option(flag: str, metavar: str, text: str, **more: Any) -> Any:
    """An option of serve. It has no default here: what is not given is read from the environment or the file."""
    return typer.Option(flag, metavar=metavar, help=text, show_default=False, **more)


_PORT = {"min": 0, "max": 65535}
Models = Annotated[Path | None, _option("--models", "DIR", "Holds MODEL/VERSION/model.onnx.")]
State = Annotated[Path | None, _option("--state", "DIR", "Keeps releases and the audit log (default: cutover-state).")]
ConfigFile = Annotated[Path | None, _option("--config", "FILE", "TOML; options given here win over it.")]
Host = Annotated[str | None, _option("--host", "HOST", "Where inference listens (default: 127.0.0.1).")]
GrpcPort = Annotated[
    int | None, _option("--grpc-port", "PORT", "Inference, gRPC (default: 8001); 0: a free one.", **_PORT)
]
HttpHost = Annotated[str | None, _option("--http-host", "HOST", "Where HTTP listens (default: 127.0.0.1).")]
HttpPort = Annotated[
    int | None, _option("--http-port", "PORT", "Metrics and health (default: 8002); 0: a free one.", **_PORT)
]
AdminHost = Annotated[str | None, _option("--admin-host", "HOST", "Where the admin API listens (default: 127.0.0.1).")]
AdminPort = Annotated[
    int | None, _option("--admin-port", "PORT", "Admin API, gRPC (default: 8003); 0: a free one.", **_PORT)
]
Socket = Annotated[Path | None, _option("--grpc-socket", "PATH", "Unix socket for inference, besides the port.")]
TlsCert = Annotated[
    Path | None, _option("--tls-cert", "FILE", "Certificate of the inference port (PEM): turns TLS on.")
]
TlsKey = Annotated[Path | None, _option("--tls-key", "FILE", "Its private key (PEM, no passphrase).")]
TlsClientCa = Annotated[
    Path | None, _option("--tls-client-ca", "FILE", "Clients need a certificate of these authorities (mutual TLS).")
]
Plaintext = Annotated[
    bool | None, typer.Option("--allow-plaintext", help="Serve other machines without TLS.", show_default=False)
]
TransportOption = Annotated[
    Transport | None,
    _option("--transport", "h2|grpcio", "Who serves clients: our server (h2, the default) or grpcio's."),
]
Proxies = Annotated[int | None, _option("--proxies", "N", "Proxies sharing the port (default: 1).", min=1)]
Instances = Annotated[int | None, _option("--instances", "N", "Workers of each version (default: 1).", min=1)]
Format = Annotated[LogFormat | None, _option("--log-format", "text|json", "How to log (default: text).")]
Level = Annotated[LogLevel | None, _option("--log-level", "LEVEL", "debug, info, warning or error (default: info).")]


@command(
    app,
    "serve",
    "cutover serve --models models",
    "cutover serve --models models --state state --proxies 2",
    "cutover serve --models models --tls-cert tls.crt --tls-key tls.key",
    "cutover serve --config cutover.toml",
)
def serve(  # noqa: PLR0913 - one parameter per option
    models: Models = None,
    state: State = None,
    config: ConfigFile = None,
    host: Host = None,
    grpc_port: GrpcPort = None,
    grpc_socket: Socket = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    allow_plaintext: Plaintext = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    transport: TransportOption = None,
    proxies: Proxies = None,
    instances: Instances = None,
    log_format: Format = None,
    log_level: Level = None,
) -> None:
    """Serves the models of a directory until told to stop (SIGTERM or Ctrl-C), then drains.

    Options win over the environment (CUTOVER_SERVER_GRPC_PORT=9001), which wins over the file.
    """
    given = {
        "server.models": models,
        "server.state": state,
        "server.host": host,
        "server.grpc_port": grpc_port,
        "server.grpc_socket": grpc_socket,
        "server.allow_plaintext": allow_plaintext,
        "tls.certificate": tls_cert,
        "tls.key": tls_key,
        "tls.client_ca": tls_client_ca,
        "server.http_host": http_host,
        "server.http_port": http_port,
        "server.admin_host": admin_host,
        "server.admin_port": admin_port,
        "server.transport": transport,
        "server.proxies": proxies,
        "workers.instances": instances,
        "log.format": log_format,
        "log.level": log_level,
    }
    # gRPC would write lines of its own into the log, one for each failed handshake. It looks here when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from gateway import app as gateway
    from gateway.config import load

    code = gateway.run(load(config, {name: value for name, value in given.items() if value is not None}))
    raise typer.Exit(code)


File = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.", show_default=False)]
OptionalFile = Annotated[Path | None, _option("--config", "FILE", "The file to read.")]


@command(config, "check", "cutover config check cutover.toml")
def check(file: File) -> None:
    """Reads a configuration file as serve would and says what is wrong with it."""
    from gateway.config import load

    load(file, {})
    typer.echo(f"{file}: nothing is wrong with it")


@command(config, "show", "cutover config show", "cutover config show --config cutover.toml -o json")
def show(config: OptionalFile = None, output: OutputOption = Output.TABLE) -> None:
    """Shows every setting as it would be in force, from defaults, file and environment.

    The output is a configuration file itself, with absolute paths. As JSON,
    durations are in seconds and sizes in bytes.
    """
    from gateway.config import load, write

    found = load(config, {})
    typer.echo(json.dumps(found.model_dump(mode="json")) if output is Output.JSON else write(found).rstrip("\n"))


HttpAddress = Annotated[
    str, typer.Option("--http", metavar="HOST:PORT", envvar="CUTOVER_HTTP", help="HTTP address of the gateway.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long to wait for an answer.")
]


@command(app, "health", "cutover health", "cutover health --http 127.0.0.1:8002 --timeout 1")
def health(http: HttpAddress = "127.0.0.1:8002", timeout: Timeout = 5.0, output: OutputOption = Output.TABLE) -> None:
    """Says whether the gateway takes requests; for container checks.

    Ready: every proxy listens, what was released at the start has loaded or
    failed, and, if anything is released, at least one stable version can
    answer. Over gRPC, ServerReady and the health Check say the same of one proxy.

    Exit code 0: ready, 1: not yet, 3: there is no gateway.
    """
    ready = _ready(http, timeout)
    said = "ready" if ready else "not ready"
    typer.echo(json.dumps({"ready": ready}) if output is Output.JSON else said)
    if not ready:
        raise typer.Exit(Exit.REFUSED)


def _ready(address: str, timeout_s: float) -> bool:
    host, port = parse_address(address, "--http")
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health/ready")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Failure(Exit.UNREACHABLE, f"cannot reach the gateway at {address} ({cause}) (--http)") from error
    finally:
        connection.close()
    if status not in (200, 503):
        raise Failure(Exit.UNREACHABLE, f"{address} answers HTTP {status}: is it Cutover's HTTP port? (--http)")
    return status == 200
