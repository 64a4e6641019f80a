"""Words and phrases to look for: function words, boilerplate of web pages, and a list of the user's own.

A phrase is a run of words in the sense of `words.py`, so one look-up serves English words, hanzi and both together:
a small table of bits says which words of a batch may begin a phrase, and only those are looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from components.score.characters import classify, codes_of, lower
from components.score.ngrams import Spans
from components.score.words import Hashes, Places, Words, find_words

_FUNCTION_WORDS = """
    the of and to a in is you that it he was for on are as with his they i at be this have from or had by but not what
    all were we when your can there an which their if will how do my me so she her him them no yes just would about up
    out am did does don has been then than its our who why where some any very too
    的 了 是 在 我 有 不 人 这 他 们 你 就 也 和 都 那 要 说 一 个 上 到 吗 呢 么 什 与 及 为 以 对 等 中 之 而 其 还 很
    没 会 去 来 它 她 把 被 从 但 這 個 們 說 嗎 與 為 對 來 還 沒 會
"""
_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Of which Gopher (Rae et al. 2021, appendix A) wants two."""
_LOREM_IPSUM = ("lorem ipsum",)
_JAVASCRIPT = ("javascript",)
_POLICIES = (
    "terms of use",
    "terms of service",
    "privacy policy",
    "cookie policy",
    "cookie settings",
    "use cookies",
    "uses cookies",
    "use of cookies",
    "accept cookies",
    "all rights reserved",
    "用户协议",
    "服务条款",
    "使用条款",
    "隐私政策",
    "隐私条款",
    "版权所有",
    "使用cookie",
    "接受cookie",
    "用戶協議",
    "服務條款",
    "隱私政策",
    "隱私權政策",
    "版權所有",
)
"""The phrases of C4 (Raffel et al. 2020), more of their kind, and what Chinese pages say in their place."""
_PROMPTS = (
    "click here",
    "read more",
    "learn more",
    "sign in",
    "sign up",
    "log in",
    "add to cart",
    "buy now",
    "free shipping",
    "subscribe now",
    "share this",
    "back to top",
    "next page",
    "previous page",
    "related articles",
    "点击这里",
    "点击进入",
    "点击查看",
    "点击购买",
    "查看更多",
    "阅读更多",
    "阅读全文",
    "更多内容",
    "立即登录",
    "立即注册",
    "立即购买",
    "加入购物车",
    "扫码关注",
    "扫描二维码",
    "关注我们",
    "联系我们",
    "返回顶部",
    "返回首页",
    "上一页",
    "下一页",
    "上一篇",
    "下一篇",
    "相关阅读",
    "相关文章",
    "免费咨询",
    "咨询热线",
    "包邮",
    "點擊進入",
    "閱讀更多",
    "聯絡我們",
    "加入購物車",
)
"""What pages ask their readers to do: prose holds one or two of these, menus and shop windows many."""


@dataclass(frozen=True)
class Phrases:
    """Phrases by their hashes.

    Attributes:
        first: Bits: may a word whose hash ends so begin a phrase?
        hashes: Phrases by their number of words: their hashes, sorted.
        groups: The group of each of those phrases.
    """

    first: np.ndarray[tuple[int], np.dtype[np.bool_]]
    hashes: dict[int, Hashes]
    groups: dict[int, Places]


_TABLE_BITS = 16
_MASK = np.uint64((1 << _TABLE_BITS) - 1)


def make_phrases(groups: Mapping[int, Iterable[str]]) -> Phrases:
    """Prepares phrases to be found.

    Args:
        groups: Phrases by the number of their group; those without a letter or digit are left out.
    """
    listed = [(group, phrase) for group, phrases in groups.items() for phrase in phrases]
    words = words_of([phrase for _, phrase in listed])
    starts, ends = words.bounds[:-1], words.bounds[1:]
    hashes = Spans(words.hashes).hash(starts, ends)
    first = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
    by_size: dict[int, dict[int, int]] = {}
    for (group, _), start, end, found in zip(listed, starts.tolist(), ends.tolist(), hashes.tolist(), strict=True):
        if end > start:
            first[int(words.hashes[start] & _MASK)] = True
            by_size.setdefault(end - start, {}).setdefault(found, group)
    tables = {size: sorted(table.items()) for size, table in sorted(by_size.items())}
    return Phrases(
        first,
        {size: np.array([key for key, _ in table], dtype=np.uint64) for size, table in tables.items()},
        {size: np.array([group for _, group in table], dtype=np.int64) for size, table in tables.items()},
    )


def words_of(texts: list[str]) -> Words:
    """The words of some texts, a document each."""
    codes = codes_of("".join(f"{text}\n" for text in texts))
    ends = np.cumsum([len(text) + 1 for text in texts])
    return find_words(lower(codes), classify(codes), ends)


def find_phrases(phrases: Phrases, words: Words, spans: Spans) -> tuple[Places, Places, Places]:
    """Where phrases occur in a batch.

    Returns:
        For each hit the index of its first word, its number of words, and the group of the phrase.
    """
    candidates = np.flatnonzero(phrases.first.take((words.hashes & _MASK).astype(np.int64)))
    last = words.bounds[1:].take(words.docs.take(candidates))
    places, sizes, groups = [], [], []
    for size, known in phrases.hashes.items():
        starts = candidates[candidates + size <= last]
        hashes = spans.hash(starts, starts + size)
        nearest = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        hit = known.take(nearest) == hashes
        places.append(starts[hit])
        sizes.append(np.full(int(hit.sum()), size))
        groups.append(phrases.groups[size].take(nearest[hit]))
    if not places:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing
    return np.concatenate(places), np.concatenate(sizes), np.concatenate(groups)


FUNCTION, STOP, LOREM, SCRIPT, POLICY, PROMPT = range(6)


@cache
def function_words() -> Phrases:
    """English and Chinese function words, those of Gopher in a group of their own."""
    return make_phrases({STOP: _STOP_WORDS, FUNCTION: _FUNCTION_WORDS.split()})


@cache
def boilerplate() -> Phrases:
    """What web pages say around their text."""
    return make_phrases({LOREM: _LOREM_IPSUM, SCRIPT: _JAVASCRIPT, POLICY: _POLICIES, PROMPT: _PROMPTS})
