"""The light normalisation of kept texts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.score.normalise import normalise, without_faults


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a  b\u00a0c\u3000d\te", "a b c d e"),
        ("line  \nnext\t\n", "line\nnext"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("  \n\n a", " a"),
        ("zero\u200bwidth\ufeff\u00ad\x00\x07", "zerowidth"),
        ("cafe\u0301", "café"),
        ("　　段落开头", "段落开头"),
        ("if x:\n    y  = 1", "if x:\n    y = 1"),
        ("全角，ＡＢＣ。", "全角，ＡＢＣ。"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
    ],
)
def test_spelling_is_made_one(raw: str, clean: str) -> None:
    assert normalise(raw) == clean


@given(st.text(max_size=100))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


def test_replacement_characters_go_without_a_trace() -> None:
    assert without_faults("one \ufffd two\n\ufffd\nthree") == "one two\n\nthree"


@pytest.mark.parametrize(
    ("raw", "normal"),
    [("a \nb", "a\nb"), ("a  b", "a b"), ("a\n\n\nb", "a\n\nb"), (" a", " a"), ("\na", "a"), ("a\n b", "a\n b")],
)
def test_a_text_with_one_fault_is_not_taken_for_a_normal_one(raw: str, normal: str) -> None:
    assert normalise(raw) == normal
