"""A channel is a folder any process of a step can speak into."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from components.channel import Channel


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_metrics_progress_and_text_are_lines_of_one_journal(tmp_path: Path):
    channel = Channel(tmp_path / "step")
    channel.log({"loss": 3}, step=7)
    channel.progress(1, None, "pages", "fine")
    channel.text("sample", "你好", step=7)
    metrics, progress, text = lines(tmp_path / "step")
    assert (metrics["kind"], metrics["step"], metrics["values"]) == ("metrics", 7, {"loss": 3.0})
    assert (progress["done"], progress["total"], progress["unit"], progress["note"]) == (1, None, "pages", "fine")
    assert (text["name"], text["text"]) == ("sample", "你好")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_kept_as_text(tmp_path: Path, value: float):
    Channel(tmp_path).log({"loss": value}, step=1)
    assert lines(tmp_path)[0]["values"] == {"loss": str(value)}


def test_the_word_to_stop_is_a_file(tmp_path: Path):
    assert not Channel(tmp_path).should_stop()
    (tmp_path / "stop").touch()
    assert Channel(tmp_path).should_stop()


def speak(channel: Channel, number: int) -> None:
    for count in range(50):
        channel.text("x", "y" * 500, step=number * 1000 + count)


def test_lines_of_several_processes_never_mix(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=speak, args=(Channel(tmp_path), number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(line["step"] for line in lines(tmp_path)) == sorted(n * 1000 + c for n in range(4) for c in range(50))
