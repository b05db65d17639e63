"""What the container's image runs by itself listens where its ports are published."""

import json
import re
from pathlib import Path

from gateway.config import load

DOCKERFILE = (Path(__file__).parents[2] / "Dockerfile").read_text("utf-8")


def test_published_ports_answer_from_outside_and_the_admin_api_does_not() -> None:
    found = re.search(r"^CMD (\[.*?\])$", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    assert found
    assert exposed
    command, *options, plaintext = json.loads(found[1])
    assert plaintext == "--allow-plaintext"
    given = {flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(*[iter(options)] * 2, strict=True)}
    settings = {f"server.{key}": value for key, value in given.items()}
    server = load(None, {**settings, "server.allow_plaintext": True}).server
    assert command == "serve"
    assert (server.host, server.http_host, server.admin_host) == ("0.0.0.0", "0.0.0.0", "127.0.0.1")
    assert [int(port) for port in exposed[1].split()] == [server.grpc_port, server.http_port]
