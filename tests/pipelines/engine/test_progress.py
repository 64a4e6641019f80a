"""The tail of a journal tells progress, rate and time left, whatever state the file is in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.channel import Channel
from pipelines.engine.progress import TAIL_BYTES, WINDOW_S, Tail, read_tail


def progress(time: float, done: int, total: int | None = 100, unit: str = "pages", note: str = "") -> dict:
    return {"kind": "progress", "time": time, "done": done, "total": total, "unit": unit, "note": note}


def journal(tmp_path: Path, lines: list[dict]) -> Path:
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_no_journal_says_nothing(tmp_path: Path):
    assert read_tail(tmp_path / "none") == Tail()


def test_rate_and_time_left_come_from_the_window(tmp_path: Path):
    lines = [progress(0, 0), progress(1000, 40), progress(1005, 50), progress(1010, 60, note="fine")]
    tail = read_tail(journal(tmp_path, lines))
    assert (tail.done, tail.total, tail.unit, tail.note) == (60, 100, "pages", "fine")
    assert tail.rate == 2.0
    assert tail.eta_s(now=1010) == 20.0
    assert tail.eta_s(now=1015) == 15.0


def test_a_count_that_starts_again_gets_its_own_rate(tmp_path: Path):
    assert read_tail(journal(tmp_path, [progress(1, 90), progress(2, 0), progress(4, 10)])).rate == 5.0


@pytest.mark.parametrize(
    "lines",
    [
        [progress(1, 10)],
        [progress(1, 10), progress(1 + WINDOW_S + 1, 20)],
        [progress(1, 10), progress(2, 5)],
        [progress(1, 10, unit="files"), progress(2, 20)],
        [progress(1, 10), progress(1, 20)],
    ],
)
def test_a_rate_that_cannot_be_known_is_none(tmp_path: Path, lines: list[dict]):
    tail = read_tail(journal(tmp_path, lines))
    assert tail.rate is None
    assert tail.eta_s(now=9) is None


def test_the_latest_value_of_each_finite_metric_is_kept(tmp_path: Path):
    channel = Channel(tmp_path)
    channel.log({"loss": 3.0, "lr": 0.1}, step=1)
    channel.log({"loss": float("nan")}, step=2)
    channel.log({"lr": 0.2}, step=3)
    assert read_tail(tmp_path / "journal.jsonl").metrics == {"loss": 3.0, "lr": 0.2}


def test_lines_of_an_earlier_attempt_do_not_count(tmp_path: Path):
    assert read_tail(journal(tmp_path, [progress(1, 90)]), since=2).done is None


def test_only_the_end_of_a_long_journal_is_read(tmp_path: Path):
    lines = [progress(n, n, note="x" * 1000) for n in range(2 * TAIL_BYTES // 1000)]
    assert read_tail(journal(tmp_path, lines)).done == len(lines) - 1


@given(cut=st.integers(0, 1000), noise=st.binary(max_size=30))
def test_a_cut_or_dirty_journal_reads_as_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
):
    text = "".join(json.dumps(progress(n, n)) + "\n" for n in range(10)).encode()
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    path.write_bytes(text[: min(cut, len(text))])
    whole = text[: min(cut, len(text))].count(b"\n")
    done = read_tail(path).done
    assert done in ({None, whole - 1} if whole == 0 else {whole - 1, whole})
    path.write_bytes(text + noise)
    assert read_tail(path).done == 9
