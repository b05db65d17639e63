"""What an operator or a client can meet by name is explained in the README, and what the README says is true."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmh3
import pytest
import typer.main

from gateway import errors
from gateway.cli.failure import Exit
from gateway.cli.root import app
from gateway.config.schema import Config
from gateway.controlplane.written import Model, VersionFile
from gateway.dataplane.route import REASONS
from gateway.observe.aliases import ALIASES
from gateway.observe.http import INDEX
from gateway.observe.metrics import METRICS, Described
from gateway.routing.assignment import bucket
from protos import admin_pb2, health_pb2, inference_pb2, reflection_pb2, reflection_v1alpha_pb2

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "loadtests").glob("*.md"))]
RESULTS = (ROOT / "loadtests" / "RESULTS.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
NO_LIMIT = 2**31 - 1

LOOKED_UP = "\n".join(re.findall(r"^\|([^|]*)\|", README, re.MULTILINE))
"""The first cell of every row of every table."""


def section(title: str) -> str:
    """The text under a heading, up to the next one of its level."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section {title}"
    return found[1]


def settings() -> Iterator[tuple[str, str, object]]:
    """(section as the file writes it, key, default)."""
    for name, field in Config.model_fields.items():
        kind = Model if name == "models" else type(field.default)
        for key, setting in kind.model_fields.items():
            yield "models.NAME" if name == "models" else name, key, setting.default


def commands(group: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Every command with its long options."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
            yield f"{path} {name}", sorted(options - {"--help"})


def rpcs() -> list[str]:
    modules = (admin_pb2, health_pb2, inference_pb2, reflection_pb2, reflection_v1alpha_pb2)
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return [method.name for service in services for method in service.methods]


def error_classes() -> list[type[errors.CutoverError]]:
    """Those that are raised; not their bases."""
    kinds = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.CutoverError)]
    return [kind for kind in kinds if kind not in (errors.CutoverError, errors.RequestError)]


def duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:g}h"
    return f"{seconds / 60:g}m" if seconds > 60 else f"{seconds:g}s"


def size(size_bytes: int) -> str:
    return f"{size_bytes >> 30}GiB" if size_bytes % (1 << 30) == 0 else f"{size_bytes >> 20}MiB"


def written(default: object) -> str:
    """A default as the table writes it; empty: in words."""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int) and default != NO_LIMIT:
        return f"| {default} |" if default < 1 << 20 else f'`"{size(default)}"`'
    if isinstance(default, float):
        return f'`"{duration(default)}"`'
    return str(default) if isinstance(default, str | Path) else ""


@pytest.mark.parametrize(("heading", "key", "default"), list(settings()))
def test_every_setting_is_explained_with_its_default(heading: str, key: str, default: object) -> None:
    table = section("Settings").partition(f"**`[{heading}]`**")[2].partition("**`[")[0]
    rows = [row for row in table.splitlines() if f"`{key}`" in row.partition("|")[2].partition("|")[0]]
    assert len(rows) == 1, f"[{heading}] {key} has no row of its own"
    assert written(default) in rows[0]


@pytest.mark.parametrize("key", VersionFile.model_fields)
def test_every_key_of_model_toml_is_explained(key: str) -> None:
    assert re.search(rf"^{key} = ", section("Models"), re.MULTILINE)


@pytest.mark.parametrize("metric", [*METRICS, *ALIASES], ids=lambda metric: metric.name)
def test_every_metric_is_explained(metric: Described) -> None:
    labels = f" {', '.join(metric.labels)} " if metric.labels else " "
    assert f"| `{metric.name}` | {metric.kind} |{labels}|" in section("Metrics and health")


@pytest.mark.parametrize("path", re.findall(r"^(/\S+)", INDEX, re.MULTILINE))
def test_every_http_path_is_explained(path: str) -> None:
    assert f"| `{path}` |" in section("Metrics and health")


@pytest.mark.parametrize("rpc", rpcs())
def test_every_rpc_is_explained(rpc: str) -> None:
    assert f"`{rpc}`" in LOOKED_UP


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_is_explained(kind: type[errors.CutoverError]) -> None:
    meets = f"`{kind.code.name}`" if issubclass(kind, errors.RequestError) else f"exit code {Exit.USAGE.value}"
    assert f"| `{kind.__name__}` | {meets} |" in section("Errors")


@pytest.mark.parametrize("why", errors.Refusal)
def test_every_reason_of_a_refusal_is_explained(why: errors.Refusal) -> None:
    assert re.search(rf"^\|[^|]*`{why}`", section("Errors"), re.MULTILINE)


@pytest.mark.parametrize("code", Exit)
def test_every_exit_code_is_explained(code: Exit) -> None:
    assert f"\n| {code.value} | " in section("Command line")


@pytest.mark.parametrize(("command", "options"), list(commands(typer.main.get_command(app), "cutover")))
def test_every_command_is_explained_with_its_options(command: str, options: list[str]) -> None:
    assert re.search(rf"`{command}[` ]", LOOKED_UP), f"{command} has no row"
    explained = section("Command line") + section("Settings") + section("Load tests")
    assert [option for option in options if not re.search(rf"{option}\b(?!-)", explained)] == []


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_explained(reason: str) -> None:
    assert f"| `{reason}` |" in section("Who is answered by whom")


def test_the_assignment_vectors_are_what_the_gateway_computes() -> None:
    row = r"^\| `([^`]+)` \| (?:`([^`]+)`|\(empty\)) \| (\d+) \| (\d+) \|$"
    vectors = re.findall(row, section("Who is answered by whom"), re.MULTILINE)
    assert len(vectors) >= 5
    for salt, unit, hashed, number in vectors:
        assert (mmh3.hash(f"{salt}:{unit}", signed=False), bucket(salt, unit)) == (int(hashed), int(number))


def anchors(text: str) -> set[str]:
    """What a link into a page may say behind its #, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def leads_nowhere(page: Path, link: str) -> bool:
    """Whether the file, or the heading in it, is not there."""
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return not target.exists() or (bool(anchor) and anchor not in anchors(target.read_text("utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = {link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")) if "://" not in link}
    assert [link for link in sorted(links) if leads_nowhere(page, link)] == []


@pytest.mark.parametrize(("link", "nowhere"), [("#why", False), ("#nobody", True), ("nobody.md", True)])
def test_a_link_that_leads_nowhere_is_found(link: str, nowhere: bool) -> None:
    assert leads_nowhere(ROOT / "README.md", link) is nowhere
    assert leads_nowhere(ROOT / "loadtests" / "RESULTS.md", f"../README.md{link}") is nowhere


@pytest.mark.parametrize("bench", re.findall(r"^(bench[a-z-]*|compare):", MAKEFILE, re.MULTILINE))
def test_every_bench_has_its_latest_run(bench: str) -> None:
    assert re.search(rf"^### Latest run\n\n`make {bench}`, 20\d\d-\d\d-\d\d, ", RESULTS, re.MULTILINE)
