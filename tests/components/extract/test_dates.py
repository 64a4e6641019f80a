"""Dates as pages write them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract.dates import date_by_cue, date_in_url, parse_date


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2024-03-05", "2024-03-05"),
        ("2024-03-05T10:22:00+08:00", "2024-03-05"),
        ("2024/3/5 10:22", "2024-03-05"),
        ("2024.03.05", "2024-03-05"),
        ("20240305102200", ""),
        ("20240305", "2024-03-05"),
        ("20240305T1022", "2024-03-05"),
        ("2024年3月5日", "2024-03-05"),
        ("2024 年 03 月 05 日 星期二", "2024-03-05"),
        ("民國113年3月5日", "2024-03-05"),
        ("二〇二四年三月五日", "2024-03-05"),
        ("二零二三年十二月三十一日", "2023-12-31"),
        ("一九九八年一月廿三日", "1998-01-23"),
        ("March 5, 2024", "2024-03-05"),
        ("Mar. 5th, 2024", "2024-03-05"),
        ("5 March 2024", "2024-03-05"),
        ("the 5th of March, 2024", "2024-03-05"),
        ("Tue, 05 Mar 2024 10:22:00 GMT", "2024-03-05"),
        ("05.03.2024", "2024-03-05"),
        ("25/12/2023", "2023-12-25"),
        ("12/25/2023", "2023-12-25"),
        ("3/5/2024", ""),
        ("5/5/2024", "2024-05-05"),
        ("2024-13-45", ""),
        ("2023-02-29, then 2023-03-01", "2023-03-01"),
        ("1875-03-05", ""),
        ("1989-03-05", ""),
        ("call 0571-2024-0305", ""),
        ("version 20240399", ""),
        ("20240305%", ""),
        ("no date", ""),
    ],
)
def test_a_date_is_read_as_it_is_meant_or_not_at_all(text: str, date: str) -> None:
    assert parse_date(text) == date


@pytest.mark.parametrize(
    ("url", "date"),
    [
        ("https://example.org/2024/03/05/flood.html", "2024-03-05"),
        ("https://example.org/news/2024-03-05-flood", "2024-03-05"),
        ("https://example.org/202403/t20240305_12345.html", "2024-03-05"),
        ("https://example.org/2024/0305/c1-1.html", "2024-03-05"),
        ("https://example.org/n1/20240305/x.html", "2024-03-05"),
        ("https://example.org/2024/03/flood.html", ""),
        ("https://example.org/id/2024030512345", ""),
        ("https://example.org/?day=2024-03-05", ""),
    ],
)
def test_a_date_in_a_url_is_found(url: str, date: str) -> None:
    assert date_in_url(url) == date


@pytest.mark.parametrize(
    ("line", "date"),
    [
        ("来源：河岸晚报　发布时间：2024-03-05 10:22", "2024-03-05"),
        ("發布日期：2024年3月5日", "2024-03-05"),
        ("Posted by Ann on March 5, 2024", "2024-03-05"),
        ("Last updated: 5 March 2024", "2024-03-05"),
        ("The bridge of 2024-03-05 held.", ""),
    ],
)
def test_a_line_that_announces_a_date_is_told_from_one_that_mentions_it(line: str, date: str) -> None:
    assert date_by_cue([line]) == date


@given(st.dates(datetime.date(1990, 1, 1), datetime.date(2099, 12, 31)), st.text(max_size=10), st.text(max_size=10))
def test_every_day_is_read_in_every_form(day: datetime.date, before: str, after: str) -> None:
    iso = day.isoformat()
    for text in (iso, f"{day.year}年{day.month}月{day.day}日", f"{day:%B} {day.day}, {day.year}", f"{day:%d %b %Y}"):
        assert parse_date(text) == iso
    assert len(parse_date(before + iso + after)) in (0, 10)


@given(st.text(max_size=80))
def test_any_text_has_a_day_of_the_calendar_or_none(text: str) -> None:
    for found in (parse_date(text), date_in_url(text), date_by_cue([text])):
        assert not found or datetime.date.fromisoformat(found)
