"""The public surface is frozen: every verb, option and config key, as listed in surface.txt.

A change of the surface is a decision: rewrite the list with `python -P tests/test_surface.py >tests/surface.txt`, say
it in the changelog.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from pipelines.cli import make_parser
from pipelines.config import Settings, all_keys, build, group_options

LISTED = Path(__file__).with_name("surface.txt")
GROUPS = ("source", "model", "crawl", "extract", "clean", "dedup", "tokenizer", "pretrain", "sft", "reward", "ppo")
GROUPS += ("pack", "evaluate", "cluster", "tracking", "recipe", "preset", "fit")


def verbs(parser: argparse.ArgumentParser, prefix: str) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from verbs(child, f"{prefix} {name}")
        elif action.dest != "help":
            yield f"{prefix} {'/'.join(action.option_strings) or action.dest.upper()}"


def surface() -> list[str]:
    lines = list(verbs(make_parser(), "headwater"))
    lines += [f"{group}={option}" for group in GROUPS for option in group_options(group)]
    lines += [f"key {key}" for key in all_keys()]
    return lines


def test_the_surface_is_the_listed_one() -> None:
    assert surface() == LISTED.read_text(encoding="utf-8").splitlines()


def test_every_issue_group_has_at_least_one_option() -> None:
    assert [group for group in GROUPS if not group_options(group)] == []


def test_the_defaults_of_the_dataclasses_are_a_valid_configuration() -> None:
    assert build(Settings, {}, "").recipe == "chat"


if __name__ == "__main__":
    print("\n".join(surface()))
