"""The HTML report stands alone and trusts nobody."""

import re
from html.parser import HTMLParser

from loadtests import page, report
from loadtests.measurement import Measurement
from loadtests.recorder import Recorder
from loadtests.slo import Slo
from tests.unit.loadtests.samples import measurement

SLO = Slo((("p50", 20_000.0), ("p99", 5000.0)), min_requests=100)
VOID = {"meta", "rect", "line", "circle", "polyline", "polygon", "br"}


class Balance(HTMLParser):
    """Complains about tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def test_it_is_complete_and_balanced() -> None:
    text = page.render(report.build(measurement(), SLO, "slo.toml"))
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert text.count("<svg") == 4
    for expected in ('class="badge fail"', "p99 no answer &gt; 5.00 ms", "UNAVAILABLE 28", "canary-2", "not judged"):
        assert expected in text


def test_nothing_comes_from_elsewhere() -> None:
    text = page.render(report.build(measurement(), SLO, "slo.toml"))
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import", text)


def test_names_are_escaped() -> None:
    text = page.render(report.build(measurement(), SLO, "slo.toml"))
    assert "&lt;digits&gt;" in text
    assert "<digits>" not in text


def test_nothing_measured_is_a_page_too() -> None:
    made = Measurement(measurement().conditions, Recorder(measurement().recorder.stages))
    assert "no answer" in page.render(report.build(made, SLO))
    assert "badge" not in page.render(report.build(made, None)).partition("</style>")[2]
