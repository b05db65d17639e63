"""The drawing is well-formed and holds every load."""

import re
from xml.etree import ElementTree as ET

from loadtests.overload import figure
from loadtests.overload.steps import FACTORS, Course, Step
from tests.unit.loadtests.overload.samples import course, step


def test_it_is_one_file_with_three_panels() -> None:
    text = figure.draw(course())
    root = ET.fromstring(text)  # noqa: S314 - written a line above
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == 3
    assert text.count("<circle") == len(FACTORS)
    assert not re.search(r"nan|inf|href|<script", text)
    used = set(re.findall(r'class="([\w-]+)"', text)) - {"title"}
    assert used <= set(re.findall(r"\.([\w-]+) \{", text))


def test_a_load_without_any_answer_is_drawn_too() -> None:
    steps = [step(0.5), step(10.0)]
    nothing = Step(2.0, step(0.0).found, 0, 0.1)
    ET.fromstring(figure.draw(Course(500, "50ms", 0.1, [steps[0], nothing, steps[1]], None)))  # noqa: S314 - likewise
