"""The parts of a report: escaping, curves, the picture of the DAG, the score table."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.report.blocks import Code, Paragraph, Table, to_html, to_markdown
from pipelines.report.curves import MAX_POINTS, line_chart, thinned, ticks
from pipelines.report.diagram import mermaid, svg
from pipelines.report.scores import HEADER, score_table

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


class Text(HTMLParser):
    """All text of the table cells of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "td"
        if self.inside:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


@settings(max_examples=80, deadline=None)
@given(st.lists(texts, min_size=1, max_size=4))
def test_every_text_comes_back_unchanged_out_of_the_page(cells: list[str]) -> None:
    assert Text(to_html("title", [Table(["a"] * len(cells), [cells])])).cells == cells


def test_a_name_or_a_time_beside_a_long_text_stays_on_one_line() -> None:
    page = to_html("title", [Table(["made by", "metrics"], [["sage-2", "kept 1  " * 40], ["two\nlines", ""]])])
    assert '<td class="short">sage-2</td><td>kept 1' in page
    assert '<td class="short">two\nlines</td>' in page


@settings(max_examples=80, deadline=None)
@given(st.lists(texts, min_size=1, max_size=4))
def test_a_markdown_table_has_one_line_a_row_and_its_columns(cells: list[str]) -> None:
    row = to_markdown("title", [Table(["a"] * len(cells), [cells])]).splitlines()[-1]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == len(cells) + 1


@settings(max_examples=80, deadline=None)
@given(st.text("`a\n", max_size=12))
def test_code_in_markdown_cannot_close_its_fence(text: str) -> None:
    lines = to_markdown("title", [Code(text), Paragraph("after")]).splitlines()
    fence = lines[2]
    inside = lines[3 : lines.index(fence, 3)]
    assert "\n".join(inside).rstrip("\n") == "\n".join(text.splitlines()).rstrip("\n")


finite = st.floats(-1e9, 1e9)


@settings(max_examples=80, deadline=None)
@given(finite, st.floats(1e-3, 1e9))
def test_ticks_are_few_round_and_inside_the_range(low: float, span: float) -> None:
    found = ticks(low, low + span, 5)
    assert 1 <= len(found) <= 6
    assert found == sorted(found)
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(allow_infinity=True, allow_nan=True)), max_size=30))
def test_a_chart_of_any_points_is_valid_and_leaves_out_what_is_not_finite(points: list[tuple[int, float]]) -> None:
    drawn = sum(math.isfinite(y) for _, y in points)
    chart = line_chart("a & b", "steps", {"x < y": sorted(points)})
    if not drawn:
        assert chart == ""
        return
    root = ElementTree.fromstring(chart)
    lines = [element.get("points", "").split() for element in root.iter() if element.tag.endswith("polyline")]
    assert sum(map(len, lines)) == (drawn if drawn > 1 else 0)


@given(st.integers(1, 5 * MAX_POINTS))
def test_thinning_keeps_few_points_and_the_last(count: int) -> None:
    points = [(float(step), 0.0) for step in range(count)]
    kept = thinned(points)
    assert len(kept) <= MAX_POINTS
    assert kept[-1] == points[-1]


GRAPH = {"site": [], "dialogues": [], "crawl": ["site"], "sft": ["crawl", "dialogues"], "ppo": ["sft", "dialogues"]}


def test_the_picture_has_an_arc_for_each_input_and_every_arc_leads_down() -> None:
    root = ElementTree.fromstring(svg(GRAPH, {}, {}))
    arcs = [element.get("d", "") for element in root.iter() if element.get("fill") == "none"]
    ends = [(int(arc.split()[1]), int(arc.split()[-1])) for arc in arcs]
    assert len(ends) == 5
    assert all(start < end for start, end in ends)


def test_the_picture_is_valid_and_names_every_step_and_state() -> None:
    states = {"site": "cached", "crawl": "done", "sft": "failed"}
    root = ElementTree.fromstring(svg(GRAPH, states, {"crawl": "4.0 s"}))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert set(GRAPH) <= set(words)
    assert {"cached", "done 4.0 s", "failed", "left out"} <= set(words)


def test_mermaid_has_each_arrow_once() -> None:
    lines = mermaid(GRAPH, {}).splitlines()
    arrows = sorted(line.strip() for line in lines if "-->" in line)
    assert arrows == ["crawl --> sft", "dialogues --> ppo", "dialogues --> sft", "sft --> ppo", "site --> crawl"]


def test_a_score_that_was_not_measured_is_a_dash() -> None:
    header, row = score_table({"base": {"bpb": 1.5}})
    assert header == HEADER
    assert row == ["base", "1.500", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_shown_as_such(value: float) -> None:
    _, row = score_table({"base": {"bpb": value}})
    assert row[1] == str(value)
