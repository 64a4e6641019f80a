"""Synonyms: files as people have them, and neighbours counted from the texts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from components.augment.synonyms import frequent_words, neighbours, read_synonyms
from components.errors import StepError


def write(folder: Path, text: str, name: str = "synonyms.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "line", ["glad happy cheerful", "glad\thappy\tcheerful", "Glad, happy, cheerful", "glad，happy；cheerful"]
)
def test_a_group_a_line_however_separated(tmp_path: Path, line: str):
    found = read_synonyms(write(tmp_path, f"# words\n\n{line}\n"))
    assert sorted(found) == ["cheerful", "glad", "happy"]
    assert found["glad"] == ("cheerful", "happy")


def test_a_chinese_thesaurus_gives_its_groups_of_equal_words_alone(tmp_path: Path):
    found = read_synonyms(write(tmp_path, "Aa01A01= 人 士 人物\nAa01A02# 甲 乙\nAa01A03@ 丙\n"))
    assert found == {"人": ("人物", "士"), "士": ("人", "人物"), "人物": ("人", "士")}


def test_an_object_of_lists_is_read(tmp_path: Path):
    assert read_synonyms(write(tmp_path, '{"glad": ["happy"]}', "s.json"))["glad"] == ("happy",)


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("alone\n", "s.txt", "no group of two"),
        ("[1]", "s.json", "holds no object"),
        ('{"a": "b"}', "s.json", "no list of words"),
        ("{", "s.json", "is no JSON"),
    ],
)
def test_a_file_that_is_no_use_is_refused(tmp_path: Path, text: str, name: str, told: str):
    with pytest.raises(StepError, match=told):
        read_synonyms(write(tmp_path, text, name))


def test_a_file_in_another_encoding_is_refused(tmp_path: Path):
    (tmp_path / "s.txt").write_bytes("高兴 快乐".encode("gbk"))
    with pytest.raises(StepError, match="cannot be read"):
        read_synonyms(tmp_path / "s.txt")


def kept_company(count: int) -> list[list[str]]:
    """Sentences in which "river" and "stream" stand between the same words, and "bread" between others."""
    draw = random.Random(0)
    texts = []
    for _ in range(count):
        texts.append(["the", "wide", draw.choice(["river", "stream"]), "flows", "slowly"])
        texts.append(["we", "bake", draw.choice(["bread", "cake"]), "at", "home"])
    return texts


def test_words_that_keep_the_same_company_are_neighbours():
    found = neighbours(kept_company(60), 5, 0.8, frozenset())
    assert found["river"] == ("stream",)
    assert found["bread"] == ("cake",)


def test_words_to_keep_neither_get_nor_are_neighbours():
    assert "river" not in neighbours(kept_company(60), 5, 0.8, frozenset(["stream"]))


def test_neighbours_do_not_depend_on_the_order_of_texts():
    texts = kept_company(60)
    shuffled = random.Random(1).sample(texts, len(texts))
    assert neighbours(texts, 3, 0.2, frozenset()) == neighbours(shuffled, 3, 0.2, frozenset())


def test_no_texts_have_no_neighbours():
    assert neighbours([], 5, 0.5, frozenset()) == {}


def test_the_most_frequent_words_are_those_and_ties_go_by_spelling():
    assert frequent_words([["The", "a", "the"], ["b", "c"]], 2) == {"the", "a"}
