"""From a measurement to a report: JSON (`loadtests/README.md` documents it), a page, a table for the terminal."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from loadtests import page, units, verdict
from loadtests.measurement import Measurement
from loadtests.recorder import Histogram, Tally, upper_us
from loadtests.slo import Slo
from loadtests.verdict import FAIL, INCONCLUSIVE, PASS, Verdict

SCHEMA = "cutover-load-report/1"
NOT_PASSED = 4
"""Exit code when an objective was not met or could not be judged."""

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
LATE_SHARE = 0.01
LATE_US = 2_000

STYLES = {PASS: "bold green", FAIL: "bold red", INCONCLUSIVE: "bold yellow"}
SIGNS = {PASS: "✓", FAIL: "✗", INCONCLUSIVE: "?"}


def conclude(measurement: Measurement, slo: Slo | None, slo_path: str | None, folder: Path | None) -> int:
    """Judges, writes the report files if a folder is given, prints the table; returns the exit code."""
    report = build(measurement, slo, slo_path)
    if folder is not None:
        report["files"] = [str(path) for path in write(report, folder)]
    print_report(report, sys.stdout)
    return exit_code(report)


def build(measurement: Measurement, slo: Slo | None, slo_path: str | None = None) -> dict[str, Any]:
    """The report as plain values."""
    recorder = measurement.recorder
    measured, seconds = recorder.measured(), recorder.measured_s()
    judged = verdict.judge(measured, seconds, slo) if slo is not None else None
    stages = [
        {"name": stage.name, "measured": stage.measured} | _summary(tally, stage.duration_s)
        for stage, tally in zip(recorder.stages, recorder.tallies, strict=True)
    ]
    return {
        "schema": SCHEMA,
        "conditions": measurement.conditions,
        "verdict": _verdict(judged, slo_path),
        "warnings": _warnings(measurement.conditions, measured),
        "measured": _summary(measured, seconds),
        "stages": stages,
        "series": [_second(second, recorder.seconds[second]) for second in sorted(recorder.seconds)],
        "distribution": _distribution(measured.latency),
    }


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Writes report.json and report.html into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "report.html", folder / "report.json"]
    paths[0].write_text(page.render(report), encoding="utf-8")
    paths[1].write_text(to_json(report), encoding="utf-8")
    return paths


def to_json(report: dict[str, Any]) -> str:
    """JSON with one line per part, so that people can find theirs."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in report.items())
    return f"{{\n{lines}\n}}\n"


def exit_code(report: dict[str, Any]) -> int:
    """0 when the objective is met or none was given, else 4."""
    return 0 if report["verdict"] is None or report["verdict"]["result"] == PASS else NOT_PASSED


def print_report(report: dict[str, Any], file: TextIO) -> None:
    """The report as tables for a terminal."""
    console = Console(file=file, highlight=False, width=None if file.isatty() else 100)
    console.print(Group(Text(headline(report), style="bold"), _stage_table(report), *_remarks(report)))
    if report["verdict"] is not None:
        console.print(_verdict_lines(report["verdict"]))
    for path in report.get("files", []):
        console.print(Text(f"report: {path}", style="dim"), soft_wrap=True)


def headline(report: dict[str, Any]) -> str:
    """One line: what was asked, and how."""
    facts = report["conditions"]
    version = f" version {facts['version']}" if facts["version"] else ""
    arm = f", arm {facts['arm']}" if facts["arm"] else ""
    return (
        f"{facts['suite']}: {facts['model']}{version}{arm} at {facts['target']}, "
        f"{units.format_rate(facts['rate'])} {facts['arrivals']} for {facts['duration_s']:g} s, {facts['users']} users"
    )


def _summary(tally: Tally, seconds: float) -> dict[str, Any]:
    found = {name: tally.quantile_us(fraction) for name, fraction in QUANTILES}
    latency = tally.latency
    return {
        "seconds": round(seconds, 3),
        "intended": tally.intended,
        "intended_per_s": round(tally.intended / seconds, 3),
        "answered": tally.ok,
        "answered_per_s": round(tally.ok / seconds, 3),
        "failed": tally.failed,
        "errors": tally.errors(),
        "error_rate": tally.failed / tally.intended if tally.intended else 0.0,
        "waited_for_user": tally.waited,
        "latency_us": found
        | {"max": latency.max_us if latency.count else None, "mean": latency.mean_us, "count": latency.count},
        "send_delay_us": {"p50": tally.delay.quantile_us(0.5), "p99": tally.delay.quantile_us(0.99)},
        "pacing_delay_us": {"p50": tally.pacing.quantile_us(0.5), "p99": tally.pacing.quantile_us(0.99)},
    }


def _second(second: int, tally: Tally) -> dict[str, Any]:
    return {
        "second": second,
        "intended": tally.intended,
        "answered": tally.ok,
        "failed": tally.failed,
        "p50_us": tally.latency.quantile_us(0.5),
        "p99_us": tally.latency.quantile_us(0.99),
    }


def _distribution(latency: Histogram) -> list[list[int]]:
    """Pairs (latency in µs, answers at or below it), 32 per power of two at most."""
    found: dict[int, int] = {}
    seen = 0
    for index in sorted(latency.counts):
        seen += latency.counts[index]
        found[min(upper_us(index | 3), latency.max_us)] = seen
    return [[value, count] for value, count in found.items()]


def _verdict(judged: Verdict | None, slo_path: str | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    objectives = [asdict(objective) for objective in judged.objectives]
    return {"result": judged.result, "slo": slo_path or "", "objectives": objectives}


def _warnings(facts: dict[str, Any], measured: Tally) -> list[str]:
    found = []
    if facts["rows"]["synthetic"]:
        found.append("The rows were made up from the model's metadata, not real ones: name some with --rows.")
    if measured.intended and measured.waited / measured.intended > LATE_SHARE:
        found.append(
            f"{measured.waited:,} of {measured.intended:,} requests found all {facts['users']} users busy and "
            f"were sent late, which is part of their latency: the service is too slow for the load, or --users too few."
        )
    if (late_us := measured.pacing.quantile_us(0.99) or 0) > max(LATE_US, 0.1 * (measured.quantile_us(0.99) or 0)):
        found.append(
            f"The load generator itself was late (p99 {units.format_us(late_us)}), which is part of every latency: "
            f"lower --rate, or give it more processor with --processes."
        )
    if measured.unsent:
        found.append(f"{measured.unsent:,} requests were still waiting for a user at the end: they count as failed.")
    return found


def _stage_table(report: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    names = [name for name, _ in QUANTILES if name != "p95"]
    for heading in ("stage", "intended", "answered", "failed", *names, "max"):
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    rows = [*report["stages"]]
    if sum(stage["measured"] for stage in rows) > 1:
        rows.append({"name": "all measured", "measured": True, **report["measured"]})
    for row in rows:
        latency = [units.format_us(row["latency_us"][name]) for name in (*names, "max")]
        table.add_row(
            row["name"] if row["measured"] else f"({row['name']})",
            units.format_rate(row["intended_per_s"]),
            units.format_rate(row["answered_per_s"]),
            f"{row['failed']:,}",
            *latency,
            style="" if row["measured"] else "dim",
        )
    return table


def _remarks(report: dict[str, Any]) -> list[Text]:
    errors = ", ".join(f"{name} {count:,}" for name, count in report["measured"]["errors"].items())
    lines = [Text(f"errors: {errors}", style="red")] if errors else []
    return lines + [Text(f"note: {warning}", style="yellow") for warning in report["warnings"]]


def _verdict_lines(judged: dict[str, Any]) -> Text:
    lines = Text()
    for objective in judged["objectives"]:
        lines.append(f"  {SIGNS[objective['result']]} ", style=STYLES[objective["result"]])
        lines.append(f"{objective['text']}\n")
    return lines.append(f"verdict: {judged['result']}", style=STYLES[judged["result"]])
