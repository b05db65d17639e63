"""The four charts of a report page."""

import math
from typing import Any

from loadtests import plot, units
from loadtests.slo import percentile

_BARS = 48
_POINTS = 160


def draw(report: dict[str, Any]) -> str:
    """All charts as HTML figures."""
    return _by_percentile(report) + _histogram(report) + _rate(report) + _latency(report)


def _by_percentile(report: dict[str, Any]) -> str:
    intended = max(1, report["measured"]["intended"])
    points = [(min(count / intended, 1 - 0.5 / intended), value) for value, count in report["distribution"]]
    nines = max(2, math.ceil(math.log10(intended)))
    ticks = [(0.0, "0%"), *((1 - 10.0**-n, f"{100 - 100 * 10.0**-n:.6g}%") for n in range(1, nines + 1))]
    x_axis = plot.Axis(0, 1 - 10.0**-nines, ticks, lambda part: -math.log10(max(1e-12, 1 - part)))
    marks = _percentile_marks(report)
    values = [value for _, value in points] + [bound for _, bound, _, _ in marks]
    chart = plot.Chart(x_axis, _latency_axis(values), "share of requests")
    chart.line([(part, max(1.0, value)) for part, value in points], "main")
    for part, bound, result, text in marks:
        chart.mark(part, bound, f"mark-{result}", text)
    return _figure(chart.svg("latency by percentile"), "Latency by percentile", "dots: the objective's bounds")


def _percentile_marks(report: dict[str, Any]) -> list[tuple[float, float, str, str]]:
    objectives = report["verdict"]["objectives"] if report["verdict"] else []
    return [
        (part, objective["bound"], objective["result"], objective["text"])
        for objective in objectives
        if (part := percentile(objective["metric"])) is not None
    ]


def _histogram(report: dict[str, Any]) -> str:
    pairs = report["distribution"]
    low = max(1.0, 0.9 * pairs[0][0]) if pairs else 1.0
    high = max(low * 2, pairs[-1][0]) if pairs else 10.0
    edges = [low * (high / low) ** (step / _BARS) for step in range(_BARS + 1)]
    counts = [0] * _BARS
    seen = 0
    for value, cumulated in pairs:
        place = int(_BARS * math.log(max(value, low) / low) / math.log(high / low))
        counts[min(_BARS - 1, place)] += cumulated - seen
        seen = cumulated
    y_axis = plot.linear(max(counts), lambda count: f"{count:,.0f}")
    chart = plot.Chart(plot.logarithmic(low, high, _short_us), y_axis, "latency")
    for step, count in enumerate(counts):
        if count:
            title = f"{units.format_us(edges[step])} to {units.format_us(edges[step + 1])}: {count:,}"
            chart.bar((edges[step], edges[step + 1]), count, "bar", title)
    return _figure(chart.svg("latency distribution"), "Latency distribution", "answers by latency, logarithmic")


def _rate(report: dict[str, Any]) -> str:
    bins = _bins(report["series"])
    highest = max([bin_["intended"] for bin_ in bins] + [bin_["answered"] for bin_ in bins] + [1.0])
    chart = plot.Chart(_time_axis(report), plot.linear(highest * 1.05, lambda rate: f"{rate:,.4g}/s"), "seconds")
    _shade_warm_up(chart, report)
    answered = [(bin_["middle"], bin_["answered"]) for bin_ in bins]
    chart.area(answered, "fill")
    chart.line(answered, "main")
    chart.line([(bin_["middle"], bin_["intended"]) for bin_ in bins], "wanted")
    for bin_ in bins:
        if bin_["failed"]:
            title = f"second {bin_['from']}: {bin_['failed']:,.0f}/s failed"
            chart.bar((bin_["from"], bin_["to"]), bin_["failed"], "error", title)
    keys = _key("--main", "answered") + _key("--soft", "intended") + _key("--bad", "failed")
    return _figure(chart.svg("rate over time"), "Rate over time", keys)


def _latency(report: dict[str, Any]) -> str:
    bins = [bin_ for bin_ in _bins(report["series"]) if bin_["p50_us"] is not None]
    values = [bin_[name] for bin_ in bins for name in ("p50_us", "p99_us")]
    chart = plot.Chart(_time_axis(report), _latency_axis(values), "seconds")
    _shade_warm_up(chart, report)
    for name, style in (("p99_us", "second"), ("p50_us", "main")):
        chart.line([(bin_["middle"], max(1.0, bin_[name])) for bin_ in bins], style)
    return _figure(chart.svg("latency over time"), "Latency over time", _key("--main", "p50") + _key("--second", "p99"))


def _bins(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds joined to at most _POINTS stretches: mean rates, worst percentiles."""
    width = max(1, math.ceil(len(series) / _POINTS))
    bins = []
    for start in range(0, len(series), width):
        part = series[start : start + width]
        rates = {name: sum(second[name] for second in part) / len(part) for name in ("intended", "answered", "failed")}
        worst = {
            name: max((second[name] for second in part if second[name] is not None), default=None)
            for name in ("p50_us", "p99_us")
        }
        first, last = part[0]["second"], part[-1]["second"] + 1
        bins.append(rates | worst | {"from": first, "to": last, "middle": (first + last) / 2})
    return bins


def _time_axis(report: dict[str, Any]) -> plot.Axis:
    end = max([second["second"] + 1 for second in report["series"]] + [1])
    return plot.linear(end, lambda second: f"{second:g}")


def _latency_axis(values: list[float]) -> plot.Axis:
    return plot.logarithmic(max(1.0, min(values, default=100.0)), max(values, default=1000.0), _short_us)


def _short_us(value_us: float) -> str:
    if value_us < 1e3:
        return f"{value_us:g} µs"
    return f"{value_us / 1e3:g} ms" if value_us < 1e6 else f"{value_us / 1e6:g} s"


def _shade_warm_up(chart: plot.Chart, report: dict[str, Any]) -> None:
    if report["conditions"]["warmup_s"]:
        chart.band(0, report["conditions"]["warmup_s"], "warm")


def _key(colour: str, name: str) -> str:
    return f'<i class="key" style="background:var({colour})"></i>{name}'


def _figure(svg: str, title: str, under: str) -> str:
    return f"<figure><figcaption>{title}<small>{under}</small></figcaption>{svg}</figure>"
