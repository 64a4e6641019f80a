"""What tests of the tokenizer share: text in two languages, and one tokenizer of each kind."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from components.tokenizer.counting import count_texts
from components.tokenizer.load import TextTokenizer
from components.tokenizer.train import train

_WORDS = """
river hill water stone house street lamp bread baker miller garden winter summer morning evening letter window doesn't
it's they'll running walked slowly seven 1234 3.14 between under great little green again never always
今天 天气 很好 我们 公园 散步 这本书 好看 值得 一读 河流 山里 大海 公里 面包 房子 冬天 早上 写信 窗户
"""
_CHINESE = [word for word in _WORDS.split() if word > "\u4e00"]
_ENGLISH = [word for word in _WORDS.split() if word < "\u4e00"]

KINDS = (
    ("bpe", "none", 500),
    ("unigram", "none", 400),
    ("wordpiece", "none", 700),
    ("word", "none", 340),
    ("word", "jieba", 340),
    ("character", "none", 320),
)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences, English and Chinese in turn, the same for the same seed."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        if number % 2:
            texts.append("，".join("".join(draw.choices(_CHINESE, k=3)) for _ in range(4)) + "。\n")
        else:
            texts.append(" ".join(draw.choices(_ENGLISH, k=14)).capitalize() + ".\n\n")
    return texts


@pytest.fixture(scope="session")
def make_sentences() -> Callable[..., list[str]]:
    return sentences


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: "-".join(map(str, kind[:2])))
def any_kind(request: pytest.FixtureRequest) -> TextTokenizer:
    kind, segmenter, size = request.param
    if segmenter == "jieba":
        pytest.importorskip("jieba", reason="the optional package jieba is not installed")
    return TextTokenizer(train(kind, segmenter, count_texts(sentences(300), kind, segmenter), size, 2))
