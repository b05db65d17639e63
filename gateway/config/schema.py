"""Every setting with its type, bounds and default: one class per section of the file."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

from gateway.config.access import Admin, file_mode
from gateway.controlplane.access.keeper import Access
from gateway.controlplane.listener import is_loopback
from gateway.controlplane.settings import (
    Batching,
    FleetSettings,
    ProxySettings,
    TritonSettings,
    WorkerSettings,
)
from gateway.controlplane.units import size_bytes
from gateway.controlplane.written import (
    Delay,
    Levels,
    Model,
    Positive,
    Seconds,
    Section,
    WorkerBytes,
    overrides,
)
from gateway.dataplane.slots import MAX_BATCH_BYTES
from gateway.routing.link import Entrance, PeerLimits
from gateway.transport.peers import Trusted
from gateway.transport.tls import TlsFiles

Port = Annotated[StrictInt, Field(ge=0, le=65_535)]
"""0: any free one."""
Host = Annotated[str, Field(min_length=1)]
Patience = Annotated[Seconds, Field(gt=0)]
"""Seconds, and not for ever."""
SHORTEST_ACK_S: Final = 0.1
AGE_S: Final = 1800.0
"""How old connections become by default where several proxies share them: some have more than others until then."""
MessageBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=1024, le=2**31 - 1)]
"""Written "512B", "64KiB", "4MiB", "1GiB"."""
HeaderBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=4096, le=256 << 10)]
ShareBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=0, le=MAX_BATCH_BYTES)]
"""More than a slot holds would never be shared: then say "0B"."""
BufferBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=1 << 20)]
BudgetBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=16 << 20)]


def _ack_timeout(seconds: float) -> float:
    """Raises ValueError when healthy proxies could not meet it: each would be killed at every change."""
    if seconds < SHORTEST_ACK_S:
        raise ValueError(f"must be at least {SHORTEST_ACK_S * 1000:.0f}ms, as a proxy that is late is replaced")
    return seconds


def _networks(entries: list[str]) -> list[str]:
    """Raises ValueError for what is neither address nor network."""
    Trusted.parse(entries)
    return entries


def _check_url(url: str) -> None:
    """Raises ValueError for what is no URL of PostgreSQL, or tells a password to whoever sees it."""
    try:
        parts = urlsplit(url)
        secret = parts.password is not None or not {"password", "sslpassword"}.isdisjoint(parse_qs(parts.query))
    except ValueError:
        raise ValueError("url must be one of PostgreSQL, such as postgresql://user@host:5432/database") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("url must begin with postgresql://; without it releases are kept in the state directory")
    if secret:
        raise ValueError("url must not hold a password; give it by password_file, PGPASSWORD or ~/.pgpass")


class Server(Section):
    """[server]: where the gateway listens and what it serves. Only `host` concerns clients' gRPC."""

    models: Path | None = None
    state: Path = Path("cutover-state")
    host: Host = "127.0.0.1"
    grpc_port: Port = 8001
    http_host: Host = "127.0.0.1"
    http_port: Port = 8002
    admin_host: Host = "127.0.0.1"
    admin_port: Port = 8003
    release_new_models: StrictBool = True
    """Whether a model that is seen for the first time is released by itself, at its highest version."""
    proxies: Annotated[StrictInt, Field(ge=1, le=256)] = 1
    reflection: StrictBool = True
    """Whether tools may ask the data port for its schema, which is public anyway."""
    drain_grace: Seconds = 20.0
    """How long requests in flight may take when the gateway stops, or the workers of a version."""
    ack_timeout: Annotated[Seconds, AfterValidator(_ack_timeout)] = 2.0
    """A proxy that has not applied a change of a release after this long is replaced."""
    grpc_socket: Path | None = None
    """A Unix socket for clients, besides the port."""
    grpc_socket_mode: Annotated[str, AfterValidator(file_mode)] = "0600"
    """Who may connect to it, as chmod writes it."""
    transport: Literal["h2", "grpcio"] = "h2"
    """Who serves clients: our own transport, or grpcio's server."""
    proxy_protocol: StrictBool = False
    """Whether every connection to the port begins with a PROXY header, which is believed."""
    trusted_proxies: Annotated[list[str], AfterValidator(_networks)] = Field(default_factory=list)
    """Whose x-forwarded-for is believed: addresses, networks and "unix:"."""
    allow_plaintext: StrictBool = False
    """Whether clients on other machines may come without TLS."""

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = [port for port in (self.grpc_port, self.http_port, self.admin_port) if port]
        if len(set(ports)) < len(ports):
            raise ValueError("grpc_port, http_port and admin_port must differ")
        return self


class Tls(Section):
    """[tls]: certificates for the port of clients, in PEM form."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    """Authorities that sign clients' certificates; without it clients need none."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    reload_every: Patience = 10.0
    """How often to look whether the files have changed."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both (--tls-cert and --tls-key)")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs a certificate and a key, too (--tls-cert and --tls-key)")
        return self


class Store(Section):
    """[store]: where releases and the audit log are kept; several gateways share a PostgreSQL."""

    url: str | None = None
    """As libpq takes it, but without a password; unset: SQLite, in the state directory."""
    password_file: Path | None = None
    """Read for every connection; unset: PGPASSWORD or ~/.pgpass."""
    gateway: Annotated[str, Field(max_length=255)] = ""
    """The name of this one among the gateways of the database; empty: its host and port."""
    cut_off: Literal["serve", "stop"] = "serve"
    """What it does for clients while it cannot reach the database, and the others cannot know."""
    lease: Annotated[Seconds, Field(ge=1)] = 10.0
    """How long a gateway that is cut off may still serve if it is to stop: a flip waits so long for it."""

    @property
    def lease_s(self) -> float:
        """0: it serves on."""
        return self.lease if self.cut_off == "stop" else 0.0

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        """Nothing of a URL is repeated in what is said: there may be a password in it."""
        if self.url is not None:
            _check_url(self.url)
        elif self.password_file is not None or self.cut_off == "stop":
            raise ValueError("password_file and cut_off concern a database; give its url, too")
        return self


class Limits(Section):
    """[limits]: what the gateway takes on. Proxies share the limits on work; the others hold for each of them."""

    max_message: MessageBytes = 2**31 - 1
    max_streams: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] = 128
    """Concurrent calls on one connection."""
    max_in_flight: Positive = 8192
    """Requests without an answer yet."""
    max_queue: Positive = 1024
    """Requests waiting for one version."""
    max_shadow_queue: Positive = 4096
    worker_wait: Seconds = 10.0
    """How long a request waits for a worker to come back."""
    worker_timeout: Seconds = 60.0
    """How long a worker may take for one batch before it is replaced; 0s: for ever."""
    shared_tensors_above: ShareBytes = 128 << 10
    """Batches and answers that are larger lie in memory shared with the worker; 0B: none."""
    max_connections: Positive = 4096
    """Open connections of clients, in one proxy."""
    max_header_bytes: HeaderBytes = 16_384
    """Metadata of one request."""
    upload_timeout: Seconds = 30.0
    """How long a request may not make progress while it arrives; 0s: for ever."""
    write_timeout: Seconds = 30.0
    """How long a client may not read its replies; 0s: for ever."""
    idle_timeout: Seconds = 3600.0
    """How long a connection without requests stays open; 0s: for ever."""
    max_buffered: BudgetBytes = 2560 << 20
    """Bytes of requests on their way in and replies on their way out, of all clients together."""
    max_uploads: BufferBytes = 64 << 20
    """Larger requests that one connection may send side by side."""
    max_backlog: BufferBytes = 128 << 20
    """Replies that one connection may leave unread."""
    max_decompressed: MessageBytes = 4 << 20
    """Largest compressed request, unpacked."""
    compress_above: MessageBytes | None = None
    """Replies at least this large are compressed for clients that accept it; unset: none."""
    max_header_fields: Positive = 100
    max_continuations: Positive = 8
    """CONTINUATION frames of one header block."""
    max_settings: Positive = 32
    """Entries of one SETTINGS frame."""
    max_control_replies: Positive = 1000
    """Answers to PING and SETTINGS that a client may leave unread."""
    max_resets: Positive = 200
    """Streams a client may reset at once, or make the server reset."""
    resets_per_second: Positive = 33
    max_chatter: Positive = 1000
    """Frames at once that bring no request on."""
    chatter_per_second: Positive = 100
    min_bytes_per_second: Positive = 500
    """Slower is no progress to `upload_timeout` and `write_timeout`."""
    handshake_timeout: Patience = 10.0
    """How long a client may take to introduce itself."""
    header_timeout: Patience = 10.0
    """How long a header block may take."""
    stream_idle_timeout: Seconds = 300.0
    """How long nothing may go either way on a streaming call; 0s: for ever."""
    keepalive_time: Seconds = 7200.0
    """A client that was silent for so long is asked whether it is there; 0s: never."""
    keepalive_timeout: Patience = 20.0
    """How long it may take to answer."""
    min_ping_interval: Seconds = 300.0
    """How often a client may ask, while it has calls; 0s: any time."""
    min_idle_ping_interval: Seconds = 7200.0
    """How often a client may ask, without calls; 0s: any time."""
    max_ping_strikes: Positive = 2
    """How many times it may ask too early."""
    max_age: Seconds | None = None
    """How old a connection may become; 0s: any age; unset: with several proxies AGE_S, so that clients spread anew."""
    max_age_grace: Seconds = 0.0
    """How long the calls of one that is too old may take to end; 0s: for ever."""

    def peers(self, proxies: int) -> PeerLimits:
        """What the transport is told."""
        age_s = self.max_age if self.max_age is not None else AGE_S * (proxies > 1)
        return PeerLimits(
            max_buffered_bytes=self.max_buffered,
            max_upload_bytes=self.max_uploads,
            max_backlog_bytes=self.max_backlog,
            max_decompressed_bytes=self.max_decompressed,
            compress_above_bytes=self.compress_above or 0,
            max_header_fields=self.max_header_fields,
            max_continuations=self.max_continuations,
            max_settings=self.max_settings,
            max_control_replies=self.max_control_replies,
            reset_burst=self.max_resets,
            resets_per_s=self.resets_per_second,
            chatter_burst=self.max_chatter,
            chatter_per_s=self.chatter_per_second,
            min_bytes_per_s=self.min_bytes_per_second,
            handshake_timeout_s=self.handshake_timeout,
            header_timeout_s=self.header_timeout,
            stream_idle_timeout_s=self.stream_idle_timeout,
            keepalive_time_s=self.keepalive_time,
            keepalive_timeout_s=self.keepalive_timeout,
            min_ping_interval_s=self.min_ping_interval,
            min_idle_ping_interval_s=self.min_idle_ping_interval,
            max_ping_strikes=self.max_ping_strikes,
            max_age_s=age_s,
            max_age_grace_s=self.max_age_grace,
        )


class Workers(Section):
    """[workers]: how every version runs, unless [models.NAME] or its own model.toml says otherwise."""

    instances: Positive = 1
    threads: Positive = 1
    max_batch_size: Positive = 64
    batching: Batching = "auto"
    preferred_batch_sizes: list[Positive] = Field(default_factory=list)
    """Batches wait for one of these sizes, up to `max_queue_delay`."""
    max_queue_delay: Delay = 0.0
    """How long a batch may wait to grow while a worker is idle."""
    pad_ragged: StrictBool = False
    """Whether requests that differ in their last axis are padded with zeros and joined."""
    queue_timeout: Seconds = 0.0
    """How long a request may wait for a worker before DEADLINE_EXCEEDED; 0s: as long as its deadline allows."""
    max_queue_wait: Seconds = 10.0
    """Requests that would wait longer are refused on arrival; 0s: never."""
    priority_levels: Levels = 0
    """Of the request parameter `priority`, 1 the first to be served; 0: it is ignored."""
    max_memory: WorkerBytes | None = None
    """How much memory a worker may hold before it is replaced; unset: any."""


class Log(Section):
    """[log]: what the control process writes to stderr."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Triton(Section):
    """[triton]: what Triton's clients may do besides asking."""

    model_control: Literal["none", "explicit"] = "none"
    """Whether they may load and unload models."""
    trace_file: Path | None = None
    """Where traces of requests go; unset: there are none."""
    change_settings: StrictBool = False
    """Whether they may change trace and log settings."""
    metric_aliases: StrictBool = False
    """Whether metrics have Triton's names, too."""
    shared_memory: StrictBool = False
    """Whether they may register regions of shared memory."""


class Config(Section):
    """All settings."""

    server: Server = Server()
    tls: Tls = Tls()
    admin: Admin = Admin()
    store: Store = Store()
    limits: Limits = Limits()
    workers: Workers = Workers()
    models: dict[str, Model] = Field(default_factory=dict)
    triton: Triton = Triton()
    log: Log = Log()

    @model_validator(mode="after")
    def _encrypted_or_not_on_purpose(self) -> Self:
        server = self.server
        if not is_loopback(server.host) and self.tls.certificate is None and not server.allow_plaintext:
            raise ValueError(
                f"clients on other machines could reach {server.host} without TLS; give --tls-cert and --tls-key, "
                "or --allow-plaintext if the network is trusted"
            )
        return self

    @model_validator(mode="after")
    def _operators_encrypted(self) -> Self:
        if self.admin.tcp and not is_loopback(self.server.admin_host) and self.admin.certificate is None:
            raise ValueError(
                f"operators on other machines could reach {self.server.admin_host} without TLS; give [admin] a "
                "certificate and a key, or leave admin_host on this machine"
            )
        return self

    @model_validator(mode="after")
    def _within_the_power_of_the_transport(self) -> Self:
        server = self.server
        beyond = {
            "server.grpc_socket": server.grpc_socket is not None,
            "server.proxy_protocol": server.proxy_protocol,
            'tls.min_version = "1.3"': self.tls.min_version != "1.2",
        }
        for setting, given in beyond.items():
            if given and server.transport == "grpcio":
                raise ValueError(f'server.transport "grpcio" cannot do {setting}; leave it out, or use "h2"')
        return self

    @model_validator(mode="after")
    def _workers_make_sense(self) -> Self:
        """A mistake that a model shares with [workers] is told once."""
        fleet = self.fleet_settings()
        general = fleet.workers.mistake()
        mistakes = {"workers": general} | {f"models.{name}": fleet.workers_of(name).mistake() for name in self.models}
        told = [
            f"{place}.{said}" for place, said in mistakes.items() if said and (place == "workers" or said != general)
        ]
        if told:
            raise ValueError("\n".join(told))
        return self

    def proxy_settings(self, grpc_port: int) -> ProxySettings:
        """What proxies are told; `grpc_port` is the reserved one."""
        server, limits = self.server, self.limits
        return ProxySettings(
            host=server.host,
            port=grpc_port,
            count=server.proxies,
            reflection=server.reflection,
            max_message_bytes=limits.max_message,
            max_streams=limits.max_streams,
            max_in_flight=limits.max_in_flight,
            max_queue=limits.max_queue,
            max_shadow_queue=limits.max_shadow_queue,
            worker_wait_s=limits.worker_wait,
            worker_timeout_s=limits.worker_timeout,
            shared_tensors_above_bytes=limits.shared_tensors_above,
            max_connections=limits.max_connections,
            max_header_bytes=limits.max_header_bytes,
            upload_timeout_s=limits.upload_timeout,
            write_timeout_s=limits.write_timeout,
            idle_timeout_s=limits.idle_timeout,
            peers=limits.peers(server.proxies),
            entrance=self.entrance(),
            extensions=self.triton_settings().extensions(),
            drain_grace_s=server.drain_grace,
            ack_timeout_s=server.ack_timeout,
        )

    def entrance(self) -> Entrance:
        """How clients come in."""
        tls, server = self.tls, self.server
        return Entrance(
            transport=server.transport,
            certificate=str(tls.certificate.absolute()) if tls.certificate else "",
            key=str(tls.key.absolute()) if tls.key else "",
            client_ca=str(tls.client_ca.absolute()) if tls.client_ca else "",
            min_version=tls.min_version,
            reload_s=tls.reload_every,
            proxy_protocol=server.proxy_protocol,
            trusted_proxies=tuple(server.trusted_proxies),
        )

    def admin_files(self) -> TlsFiles | None:
        """Where the certificates of the admin API lie; None: its port is in clear."""
        admin = self.admin
        if admin.certificate is None or admin.key is None:
            return None
        return TlsFiles(admin.certificate, admin.key, admin.client_ca)

    def access(self) -> Access:
        """Who may do what by configuration."""
        admin = self.admin
        open_port = admin.tcp and is_loopback(self.server.admin_host) and admin.client_ca is None
        return Access(admin.roles(), open_port, admin.socket is not None)

    def triton_settings(self) -> TritonSettings:
        """What answers Triton's rarer calls is told."""
        triton = self.triton
        return TritonSettings(
            model_control=triton.model_control,
            trace_file=str(triton.trace_file.absolute()) if triton.trace_file else "",
            change_settings=triton.change_settings,
            metric_aliases=triton.metric_aliases,
            shared_memory=triton.shared_memory,
        )

    def fleet_settings(self) -> FleetSettings:
        """What worker pools and assignments are told."""
        return FleetSettings(
            workers=overrides(self.workers).over(WorkerSettings()),
            models={name: model.overrides() for name, model in self.models.items()},
            assignments={name: model.assignment() for name, model in self.models.items()},
            linger_s=self.server.drain_grace,
        )
