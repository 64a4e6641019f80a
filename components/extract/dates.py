"""Dates as pages write them, English and Chinese, to "YYYY-MM-DD".

A date is believed if its parts stand in an order that can mean only one thing: the year first, a month by its name, or
day before month where the day is above twelve or dots separate them (no English page writes month.day.year). Years
outside 1990 to 2099 are numbers, not dates; there was no web before. The clock is never asked: a page extracted
tomorrow must give the same document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

_MONTHS_TEXT = """
    january jan|february feb|march mar|april apr|may|june jun|july jul|august aug|september sept sep|october oct
    |november nov|december dec
"""
_MONTHS = {name: number for number, names in enumerate(_MONTHS_TEXT.split("|"), start=1) for name in names.split()}
_DIGITS = {char: str(index) for index, char in enumerate("〇一二三四五六七八九")} | {"零": "0", "○": "0", "Ｏ": "0"}
_NAME = "|".join(sorted(_MONTHS, key=len, reverse=True))
_HAN = "[〇零○一二三四五六七八九]"
_DATE = re.compile(
    rf"""(?<!\d)(?P<y>(?:19|20)\d\d)(?:
          \s?(?P<sep>[-/.])\s?(?P<m>\d\d?)\s?(?P=sep)\s?(?P<d>\d\d?)(?!\d)
          |\s?年\s?(?P<m2>\d\d?)\s?月\s?(?P<d2>\d\d?)\s?[日号號]
          |(?P<m3>[01]\d)(?P<d3>[0-3]\d)(?![\d%]) )
      |(?:民國|民国)\s?(?P<roc>\d{{2,3}})\s?年\s?(?P<m4>\d\d?)\s?月\s?(?P<d4>\d\d?)\s?日
      |(?P<hy>[一二]{_HAN}{{3}})年(?P<hm>[一二三四五六七八九十]{{1,2}})月(?P<hd>[一二三四五六七八九十廿卅]{{1,3}})[日号號]
      |\b(?P<name>{_NAME})\.?\s+(?P<d5>\d\d?)(?:st|nd|rd|th)?\s?,?\s+(?P<y5>(?:19|20)\d\d)(?!\d)
      |(?<!\d)(?P<d6>\d\d?)(?:st|nd|rd|th)?\.?[\s-]\s?(?:of\s)?(?P<name6>{_NAME})\.?,?[\s-]\s?(?P<y6>(?:19|20)\d\d)(?!\d)
      |(?<!\d)(?P<a>\d\d?)(?P<sep7>[./-])\s?(?P<b>\d\d?)(?P=sep7)\s?(?P<y7>(?:19|20)\d\d)(?!\d)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_IN_URL = re.compile(
    r"[/_.t-](?P<y>(?:19|20)\d\d)(?:(?P<sep>[-/_])(?P<m>\d\d?)(?P=sep)(?P<d>\d\d?)|/?(?P<m2>[01]\d)/?(?P<d2>[0-3]\d))(?!\d)"
)
_CUE = re.compile(
    r"(?:发布|發佈|發布|发表|發表|刊登|刊载|更新|编辑|編輯|成文|印发|录入|上传|創建|创建)(?:于|於|在|时间|時間|日期)?\s*[:：]?"
    r"|(?:时间|時間|日期)\s*[:：]|\b(?:published|posted|updated|created|written|released|date|on)\b\s*:?",
    re.IGNORECASE,
)
_CUE_REACH = 40
_FIRST_YEAR, _LAST_YEAR = 1990, 2099


def parse_date(text: str) -> str:
    """The first date in a text, as "YYYY-MM-DD"; empty if there is none."""
    if not _may_hold_date(text):
        return ""
    for match in _DATE.finditer(text):
        found = _of_match(match.groupdict())
        if found:
            return found
    return ""


def date_in_url(url: str) -> str:
    """The date in a URL's path such as /2024/03/05/ or /t20240305_1.html; empty if there is none."""
    for match in _IN_URL.finditer(url.partition("?")[0]):
        part = match.groupdict()
        found = _made(part["y"], part["m"] or part["m2"], part["d"] or part["d2"])
        if found:
            return found
    return ""


def date_by_cue(lines: Iterable[str]) -> str:
    """The first date that a line announces ("发布时间：2024-03-05", "Posted on March 5, 2024"); empty if none does."""
    for line in filter(_may_hold_date, lines):
        for cue in _CUE.finditer(line):
            found = parse_date(line[cue.end() : cue.end() + _CUE_REACH])
            if found:
                return found
    return ""


def _may_hold_date(text: str) -> bool:
    """Whether a text holds what stands in every date, a century or the character for year: nearly all lines do not."""
    return "20" in text or "19" in text or "年" in text


def _of_match(part: dict[str, str | None]) -> str:
    if part["y"]:
        return _made(part["y"], part["m"] or part["m2"] or part["m3"], part["d"] or part["d2"] or part["d3"])
    if part["roc"]:
        return _made(int(part["roc"]) + 1911, part["m4"], part["d4"])
    if part["hy"]:
        year = "".join(_DIGITS[char] for char in part["hy"])
        return _made(year, _han_number(part["hm"] or ""), _han_number(part["hd"] or ""))
    if part["name"]:
        return _made(part["y5"], _MONTHS[part["name"].lower()], part["d5"])
    if part["name6"]:
        return _made(part["y6"], _MONTHS[part["name6"].lower()], part["d6"])
    return _day_first(part)


def _day_first(part: dict[str, str | None]) -> str:
    """Day, month, year; with slashes or hyphens only where no other order is possible."""
    first, second = int(part["a"] or 0), int(part["b"] or 0)
    if part["sep7"] == "." or first > 12 or first == second:
        return _made(part["y7"], second, first)
    return _made(part["y7"], first, second) if second > 12 else ""


def _han_number(text: str) -> int:
    """A number up to 39 in hanzi: 十, 十二, 二十, 廿三, 三十一."""
    text = text.replace("廿", "二十").replace("卅", "三十")
    tens, ten, ones = text.rpartition("十")
    if not ten:
        return int(_DIGITS[text]) if text in _DIGITS else 0
    return 10 * int(_DIGITS.get(tens, "1")) + int(_DIGITS.get(ones, "0"))


def _made(year: str | int | None, month: str | int | None, day: str | int | None) -> str:
    """The date, if there is such a day."""
    try:
        made = date(int(year or 0), int(month or 0), int(day or 0))
    except ValueError:
        return ""
    return made.isoformat() if _FIRST_YEAR <= made.year <= _LAST_YEAR else ""
