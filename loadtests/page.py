"""The report as one HTML page that needs nothing else: inline SVG and CSS, light and dark, no script."""

from html import escape
from pathlib import Path
from typing import Any

from loadtests import charts, units

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def render(report: dict[str, Any]) -> str:
    """The page of a report made by `report.build`."""
    facts, judged = report["conditions"], report["verdict"]
    name = f"{facts['model']}{' version ' + facts['version'] if facts['version'] else ''}"
    badge = f'<span class="badge {judged["result"]}">{judged["result"]}</span>' if judged else ""
    arm = f"arm {facts['arm']}, " if facts["arm"] else ""
    under = f"Suite “{facts['suite']}”, {arm}{facts['target']}, started {facts['started']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(f"Load on {name}")}</title><style>{_STYLE}</style></head><body>
<h1>Load on {_text(name)} {badge}</h1><p class="sub">{_text(under)}</p>
{_cards(report["measured"])}
{"".join(f'<p class="note">{_text(warning)}</p>' for warning in report["warnings"])}
{_objectives(judged) if judged else ""}
<h2>Pictures</h2><div class="charts">{charts.draw(report)}</div>
<h2>Stages</h2>{_stages(report)}
<h2>Conditions</h2>{_conditions(facts)}
<p class="sub">A latency runs from the moment a request ought to have been sent. Percentiles are over all requests that
ought to have been sent; those that failed or never left rank behind every answer.</p>
</body></html>
"""


def _text(value: object) -> str:
    return escape(str(value))


def _cards(measured: dict[str, Any]) -> str:
    latency = measured["latency_us"]
    cards = [
        (f"{measured['intended']:,}", "requests intended"),
        (units.format_rate(measured["answered_per_s"]), f"answered of {units.format_rate(measured['intended_per_s'])}"),
        (units.format_percent(measured["error_rate"]), f"failed ({measured['failed']:,})"),
        *((units.format_us(latency[name]), name) for name in ("p50", "p90", "p99", "p99.9", "max")),
    ]
    body = "".join(
        f'<div class="card"><b>{_text(value)}</b><span>{_text(label)}</span></div>' for value, label in cards
    )
    return f'<div class="cards">{body}</div>'


def _objectives(judged: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><td><span class="dot {objective["result"]}"></span>{_text(objective["text"])}</td>'
        f"<td>{objective['result']}</td></tr>"
        for objective in judged["objectives"]
    )
    return f"<h2>Objectives</h2><table><tr><th>{_text(judged['slo'])}</th><th>result</th></tr>{rows}</table>"


def _stages(report: dict[str, Any]) -> str:
    quantiles = ("p50", "p90", "p95", "p99", "p99.9", "max")
    head = "".join(
        f"<th>{name}</th>" for name in ("stage", "requests", "intended", "answered", "failed", *quantiles, "n")
    )
    rows = []
    for stage in [*report["stages"], {"name": "all measured", "measured": True, **report["measured"]}]:
        cells = [
            stage["name"] if stage["measured"] else f"{stage['name']} (not judged)",
            f"{stage['intended']:,}",
            units.format_rate(stage["intended_per_s"]),
            units.format_rate(stage["answered_per_s"]),
            ", ".join(f"{name} {count:,}" for name, count in stage["errors"].items()) or "0",
            *(units.format_us(stage["latency_us"][name]) for name in quantiles),
            f"{stage['latency_us']['count']:,}",
        ]
        style = "" if stage["measured"] else ' class="unmeasured"'
        rows.append(f"<tr{style}>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _conditions(facts: dict[str, Any]) -> str:
    flat = {**facts, "rows": f"{facts['rows']['count']:,}: {facts['rows']['source']}"}
    flat["generator"] = ", ".join(f"{key} {value}" for key, value in facts["generator"].items())
    rows = "".join(f"<tr><td>{_text(key)}</td><td>{_text(value)}</td></tr>" for key, value in flat.items())
    return f"<table>{rows}</table>"
