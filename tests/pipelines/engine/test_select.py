"""Selectors are set algebra over the graph: closures, intersections, and sentences for what cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import ConfigError
from pipelines.engine.select import EVERYTHING, OPTIONS, Graph, Selection, above, below, select

CHAT: Graph = {
    "crawl": [],
    "clean": ["crawl"],
    "dedup": ["clean"],
    "tokenizer": ["dedup"],
    "tokens": ["dedup", "tokenizer"],
    "pretrain": ["tokens", "tokenizer"],
    "dialogues": [],
    "sft": ["pretrain", "dialogues"],
}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Graphs of at most eight steps, in a shuffled order."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 8)))]
    edges = {
        name: draw(st.lists(st.sampled_from(names[:number]), unique=True)) if number else []
        for number, name in enumerate(names)
    }
    return {name: edges[name] for name in draw(st.permutations(names))}


@st.composite
def graphs_with_names(draw: st.DrawFn) -> tuple[dict[str, list[str]], list[str], list[str]]:
    graph = draw(graphs())
    some = st.lists(st.sampled_from(sorted(graph)), min_size=1, max_size=3, unique=True)
    return graph, draw(some), draw(some)


def steps(graph: Graph, **words: list[str]) -> frozenset[str]:
    """The selected steps; none where the selection leaves nothing, which is refused."""
    try:
        return select(Selection.of(words), graph).steps
    except ConfigError:
        return frozenset()


def test_nothing_asked_for_selects_everything():
    assert select(EVERYTHING, CHAT).steps == set(CHAT)
    assert select(EVERYTHING, CHAT).forced == set()


@pytest.mark.parametrize(
    ("words", "selected"),
    [
        ({"start": ["tokens"]}, {"tokens", "pretrain", "sft"}),
        ({"until": ["dedup"]}, {"crawl", "clean", "dedup"}),
        ({"start": ["clean"], "until": ["tokens"]}, {"clean", "dedup", "tokenizer", "tokens"}),
        ({"only": ["dedup,sft"]}, {"dedup", "sft"}),
        ({"only": ["dedup", "sft"]}, {"dedup", "sft"}),
        ({"only": ["+clean"]}, {"crawl", "clean"}),
        ({"only": ["pretrain+"]}, {"pretrain", "sft"}),
        ({"only": ["+tokens+"]}, {"crawl", "clean", "dedup", "tokenizer", "tokens", "pretrain", "sft"}),
        ({"skip": ["dialogues", "crawl"]}, set(CHAT) - {"dialogues", "crawl"}),
        ({"skip": ["pretrain+"]}, set(CHAT) - {"pretrain", "sft"}),
        ({"until": ["sft"], "skip": ["dialogues"]}, set(CHAT) - {"dialogues"}),
    ],
)
def test_each_option_selects_what_it_says(words: dict[str, list[str]], selected: set[str]):
    assert steps(CHAT, **words) == selected


@given(graphs_with_names())
def test_from_is_all_below_and_until_all_above(drawn: tuple[dict[str, list[str]], list[str], list[str]]):
    graph, names, _ = drawn
    assert steps(graph, start=names) == below(names, graph) == steps(graph, only=[f"{name}+" for name in names])
    assert steps(graph, until=names) == above(names, graph) == steps(graph, only=[f"+{name}" for name in names])


@given(graphs_with_names())
def test_options_together_are_the_intersection(drawn: tuple[dict[str, list[str]], list[str], list[str]]):
    graph, names, others = drawn
    assert steps(graph, start=names, until=others) == steps(graph, start=names) & steps(graph, until=others)
    assert steps(graph, only=names, skip=others) == frozenset(names) - frozenset(others)


@given(graphs_with_names())
def test_below_is_the_converse_of_above(drawn: tuple[dict[str, list[str]], list[str], list[str]]):
    graph, (name, *_), (other, *_) = drawn
    assert (other in below([name], graph)) == (name in above([other], graph))


@given(graphs_with_names())
def test_above_is_closed_under_what_steps_need(drawn: tuple[dict[str, list[str]], list[str], list[str]]):
    graph, names, _ = drawn
    chosen = above(names, graph)
    assert {producer for name in chosen for producer in graph[name]} <= chosen


@given(graphs_with_names())
def test_the_order_of_names_and_steps_never_counts(drawn: tuple[dict[str, list[str]], list[str], list[str]]):
    graph, names, others = drawn
    turned = dict(reversed(graph.items()))
    assert steps(graph, start=names, skip=others) == steps(turned, start=names[::-1], skip=others[::-1])


@given(graphs_with_names())
def test_every_step_is_selected_or_left_out_by_an_option(drawn: tuple[dict[str, list[str]], list[str], list[str]]):
    graph, names, _ = drawn
    found = select(Selection.of({"until": names, "force": names}), graph)
    assert found.steps | found.left_out.keys() == set(graph)
    assert not found.steps & found.left_out.keys()
    assert set(found.left_out.values()) <= {"--until"}
    assert found.forced == set(names)


@given(graphs_with_names())
def test_force_downstream_forces_all_below_that_is_selected(drawn: tuple[dict[str, list[str]], list[str], list[str]]):
    graph, (name, *_), _ = drawn
    assert select(Selection(force_downstream=(name,)), graph).forced == below([name], graph)
    assert select(Selection(until=(name,), force_downstream=(name,)), graph).forced == {name}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_unknown_step_is_refused_with_the_nearest_name(option: str):
    with pytest.raises(ConfigError, match="There is no step pretrian") as caught:
        select(Selection.of({option: ["+pretrian"]}), CHAT)
    assert caught.value.where == f"{OPTIONS[option]} +pretrian"
    assert caught.value.fix == "did you mean pretrain?"


def test_a_name_like_none_is_answered_with_the_list():
    with pytest.raises(ConfigError) as caught:
        select(Selection(only=("xyz",)), CHAT)
    assert caught.value.fix == f"the steps are {', '.join(CHAT)}"


def test_a_selection_that_leaves_nothing_is_refused():
    with pytest.raises(ConfigError, match="leaves no step") as caught:
        select(Selection(start=("sft",), until=("crawl",)), CHAT)
    assert caught.value.where == "--from sft --until crawl"


def test_a_forced_step_that_is_left_out_is_refused_naming_both_options():
    with pytest.raises(ConfigError, match="--force asks for crawl, which --from leaves out"):
        select(Selection(start=("sft",), force=("crawl",)), CHAT)


@given(st.fixed_dictionaries({name: st.lists(st.sampled_from(["a", "+b", "c+"]), max_size=2) for name in OPTIONS}))
def test_a_selection_survives_json_and_the_command_line(words: dict[str, list[str]]):
    selection = Selection.of(words)
    typed = dict(zip(selection.words()[::2], ([word] for word in selection.words()[1::2]), strict=True))
    assert Selection.from_json(selection.to_json()) == selection
    assert Selection.of({name: typed.get(option) for name, option in OPTIONS.items()}) == selection
