import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.access import Admin
from gateway.config.load import load
from gateway.config.schema import Config, Limits, Log, Server, Workers
from gateway.config.write import write
from gateway.controlplane.written import Model

EVERYTHING = Config(
    server=Server.model_validate(
        {"models": Path("/m"), "state": Path("/a b/ü"), "grpc_port": 0, "drain_grace": "1.5m"}
    ),
    limits=Limits.model_validate(
        {"max_message": "4MiB", "worker_wait": "250ms", "max_age": "1h", "compress_above": "64KiB"}
    ),
    workers=Workers(instances=3, batching="off"),
    models={
        "digits": Model(threads=2, no_unit="stable", allow_forced=False),
        "slow": Model.model_validate({"queue_timeout": "1m", "max_memory": "2GiB"}),
        "a.b": Model(unit_metadata=['x-"quoted"', "back\\slash"], unit_parameters=[]),
    },
    admin=Admin(
        socket=Path("/run/a.sock"),
        certificate=Path("/run/a.crt"),
        key=Path("/run/a.key"),
        client_ca=Path("/run/ca.crt"),
        grants={"spiffe://corp/ops": "owner", 'ada "x"': {"digits": "operator", "*": "viewer"}},
    ),
    log=Log(format="json", level="debug"),
)


def read_back(config: Config, folder: Path) -> Config:
    file = folder / "cutover.toml"
    file.write_text(write(config), "utf-8")
    return load(file)


def absolute(config: Config) -> Config:
    return config.model_copy(
        update={"server": config.server.model_copy(update={"state": config.server.state.absolute()})}
    )


@pytest.mark.parametrize("config", [Config(), EVERYTHING])
def test_what_is_written_is_read_back_the_same(config: Config, tmp_path: Path) -> None:
    assert read_back(config, tmp_path) == absolute(config)


def test_values_have_the_notation_of_the_file() -> None:
    lines = write(EVERYTHING).splitlines()
    assert {
        "server.grpc_port = 0",
        'server.drain_grace = "90s"',
        'limits.max_message = "4MiB"',
        'limits.worker_wait = "250ms"',
        'limits.max_age = "1h"',
        'limits.compress_above = "64KiB"',
        'models.slow.queue_timeout = "1m"',
        'models.slow.max_memory = "2GiB"',
        "models.digits.allow_forced = false",
        "# models.digits.instances is not set",
        'models."a.b".unit_parameters = []',
        'admin.grants = { "spiffe://corp/ops" = "owner", "ada \\"x\\"" = { digits = "operator", "*" = "viewer" } }',
    } <= set(lines)
    assert "# server.models is not set" in write(Config())
    assert 'limits.max_message = "2147483647B"' in write(Config())


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_text_survives(text: str) -> None:
    config = Config(models={text: Model(unit_metadata=[text])})
    (model,) = tomllib.loads(write(config))["models"].items()
    assert model == (text, model[1] | {"unit_metadata": [text]})
