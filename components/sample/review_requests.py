"""How a user asks for a review: requests in Chinese that a labelled review can answer truthfully.

A review becomes an example by asking for what it is: a review of a hotel, one that mentions breakfast, of about twenty
characters. Requests say nothing about praise or blame, so both a positive and a negative review answer them, and what
the reward model and PPO learn is the preference, not the request.

A request is a phrasing x a topic x a length. Of each topic and length three phrasings belong to training and the fourth
to the held-out part: a model meets every held-out request for the first time, made of words that it knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

_PHRASINGS = ("写一条{}评论。", "请写一条{}评论。", "帮我写一条{}评论。", "请写一句{}评价。")
_LENGTHS = ((0, 0, 0), (20, 15, 25), (40, 34, 46))  # asked for, shortest and longest review that fits; 0 says nothing

_SUBJECTS = {
    "酒店": "酒店|宾馆|房间|前台|入住|早餐|服务员|大堂|携程|客房|饭店|床|浴室|退房",
    "电脑": "电脑|笔记本|本本|屏|散热|系统|显卡|硬盘|键盘|内存|机器|驱动|本子|电池|触摸板|配置|摄像头|光驱|开机|外观",
    "图书": "书|作者|小说|文字|故事|看完|作品|翻译|当当|读者|章节|阅读",
}
_ASPECTS = {
    "酒店": ("早餐", "房间", "服务", "位置", "前台", "价格", "设施", "环境"),
    "电脑": ("屏幕", "散热", "键盘", "系统", "电池", "外观", "性价比", "硬盘"),
    "图书": ("内容", "作者", "故事", "孩子"),
}


@dataclass(frozen=True)
class Topic:
    """What a review is about.

    Attributes:
        subject: "酒店", "电脑" or "图书"; empty where the review does not show it.
        aspect: A word the review mentions, such as "早餐"; may be empty.
    """

    subject: str = ""
    aspect: str = ""

    def __str__(self) -> str:
        return f"提到{self.aspect}的{self.subject}" if self.aspect else self.subject


@cache
def topics() -> tuple[Topic, ...]:
    """All topics: none at all, each subject, each subject with an aspect."""
    with_aspect = (Topic(subject, aspect) for subject, aspects in _ASPECTS.items() for aspect in aspects)
    return (Topic(), *map(Topic, _SUBJECTS), *with_aspect)


def topics_of(review: str) -> list[Topic]:
    """The topics that a review is an answer to, the narrowest first.

    The subject is the one most of whose words occur; where two tie or none occurs, the review has the empty topic only.
    """
    counts = sorted((len(re.findall(words, review)), subject) for subject, words in _SUBJECTS.items())
    (second, _), (most, subject) = counts[-2:]
    if most == second:
        return [Topic()]
    aspects = [Topic(subject, aspect) for aspect in _ASPECTS[subject] if aspect in review]
    return [*aspects, Topic(subject), Topic()]


def request(topic: Topic, num_chars: int, key: str, held_out: bool) -> str:
    """A request that a review of this topic and length answers.

    Args:
        topic: What the review is about.
        num_chars: Its length.
        key: Chooses among the fitting requests by its hash, such as the review's id.
        held_out: From which part.
    """
    fitting = [
        number for number, (asked, least, most) in enumerate(_LENGTHS) if not asked or least <= num_chars <= most
    ]
    choices = [text for number in fitting for text in _texts(topics().index(topic), number, held_out)]
    return choices[int.from_bytes(sha256(key.encode()).digest()[:8], "big") % len(choices)]


def requests(held_out: bool) -> list[str]:
    """All requests of one part."""
    numbers = range(len(_LENGTHS))
    return [text for topic in range(len(topics())) for length in numbers for text in _texts(topic, length, held_out)]


def _texts(topic: int, length: int, held_out: bool) -> Iterator[str]:
    for number, phrasing in enumerate(_PHRASINGS):
        if ((number + topic + length) % len(_PHRASINGS) == len(_PHRASINGS) - 1) == held_out:
            text = phrasing.format(topics()[topic])
            asked = _LENGTHS[length][0]
            yield f"{text[:-1]}，{asked}字左右。" if asked else text


def usable_review(text: str, max_chars: int) -> bool:
    """Whether a review reads well on its own: whole, mostly Chinese, no item torn out of a numbered list."""
    num_han = len(re.findall(r"[\u4e00-\u9fff]", text))
    return (
        10 <= len(text) <= max_chars
        and num_han >= 0.7 * len(text)
        and not re.match(r"[\d(（一二三四五][^\u4e00-\u9fff]", text)
    )
