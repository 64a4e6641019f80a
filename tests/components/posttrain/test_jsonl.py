"""Reading dialogue files: every bad row is refused by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import StepError
from components.posttrain.jsonl import Line, read_lines

GOOD = {"role": "user", "content": "hello"}


def line(**row: object) -> Line:
    return Line(Path("chat.jsonl"), 7, row)


@given(rows=st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=3), max_size=5))
def test_objects_come_back_with_their_line_numbers(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]
):
    path = tmp_path_factory.mktemp("lines") / "chat.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows), encoding="utf-8")
    assert [(found.number, found.row) for found in read_lines(path)] == [(2 * n + 1, row) for n, row in enumerate(rows)]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path):
    path = tmp_path / "chat.jsonl"
    path.write_bytes('\ufeff{"a": "b"}\r\n'.encode())
    assert [found.row for found in read_lines(path)] == [{"a": "b"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n{"a": \n', "not JSON"),
        (b'{"a": 1}\n[1, 2]\n', "no object"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "not UTF-8"),
    ],
)
def test_a_line_that_is_no_json_object_is_refused_with_its_number(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "chat.jsonl"
    path.write_bytes(content)
    with pytest.raises(StepError, match=said) as caught:
        list(read_lines(path))
    assert caught.value.where == f"{path}, line 2"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(StepError, match="no such file"):
        list(read_lines(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (None, "missing or no list"),
        ([], "missing or no list"),
        ("hello", "missing or no list"),
        (["hello"], "message 1 is no object"),
        ([GOOD, {"content": "hi"}], "message 2 has the role None"),
        ([GOOD, {"role": "bot", "content": "hi"}], "message 2 has the role 'bot', none of system, user, assistant"),
        ([GOOD, {"role": "assistant"}], '"content" of message 2 is empty'),
        ([GOOD, {"role": "assistant", "content": " \n"}], '"content" of message 2 is empty'),
        ([GOOD, {"role": "assistant", "content": 3}], '"content" of message 2 is empty or no text'),
        ([GOOD, {"role": "assistant", "content": "\ud83d"}], "half a surrogate pair"),
        ([GOOD], "ends with the user, not the assistant"),
    ],
)
def test_messages_that_cannot_be_used_are_refused_by_number(messages: object, said: str):
    with pytest.raises(StepError, match=said) as caught:
        line(messages=messages).messages("messages", "assistant")
    assert caught.value.where == "chat.jsonl, line 7"
    assert caught.value.fix


def test_messages_keep_their_role_and_content_only():
    given_messages = [{**GOOD, "name": "Ann"}, {"role": "assistant", "content": " hi "}]
    assert line(m=given_messages).messages("m", "assistant") == (GOOD, {"role": "assistant", "content": " hi "})


@pytest.mark.parametrize("value", ["0.5", True, float("nan"), None, float("inf")])
def test_a_number_must_be_a_finite_number(value: object):
    with pytest.raises(StepError, match="not a finite number"):
        line(margin=value).number_of("margin", 1.0)


def test_a_number_left_out_is_the_default():
    assert line().number_of("margin", 1.0) == 1.0
    assert line(margin=0).number_of("margin", 1.0) == 0.0
