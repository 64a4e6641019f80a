"""Requests for reviews: each review is asked for what it is, and held-out requests are new."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.sample.review_requests import Topic, request, requests, topics, topics_of, usable_review


def test_three_of_four_requests_of_each_topic_and_length_are_for_training():
    train, held = requests(held_out=False), requests(held_out=True)
    assert len(train) == 3 * len(held) == 9 * len(topics())
    assert len(set(train) | set(held)) == len(train) + len(held)


@given(topic=st.sampled_from(topics()), num_chars=st.integers(10, 80), key=st.text(max_size=9), held_out=st.booleans())
def test_a_request_names_topic_and_length_truly(topic: Topic, num_chars: int, key: str, held_out: bool):
    text = request(topic, num_chars, key, held_out)
    assert text in requests(held_out)
    assert topic.subject in text
    assert topic.aspect in text
    asked = re.search(r"(\d+)字左右", text)
    assert asked is None or abs(int(asked.group(1)) - num_chars) <= 6


@pytest.mark.parametrize(
    ("review", "first"),
    [
        ("酒店的早餐很好，房间也干净。", Topic("酒店", "早餐")),
        ("前台的人很热情，下次还来住。", Topic("酒店", "前台")),
        ("散热不好，键盘手感也差。", Topic("电脑", "散热")),
        ("作者写得真好，小说很感人。", Topic("图书", "作者")),
        ("挺好的，很喜欢，推荐。", Topic()),
        ("酒店里看书。", Topic()),
    ],
)
def test_the_narrowest_topic_of_a_review_comes_first(review: str, first: Topic):
    found = topics_of(review)
    assert found[0].subject == first.subject
    assert found[0] == first
    assert found[-1] == Topic()


@pytest.mark.parametrize(
    ("review", "usable"),
    [
        ("房间很干净，服务也很周到。", True),
        ("很好", False),
        ("1、房间很干净，服务也很周到。", False),
        ("OK OK OK OK OK good good 好", False),
        ("很" * 61, False),
    ],
)
def test_reviews_that_do_not_stand_alone_are_not_usable(review: str, usable: bool):
    assert usable_review(review, 60) is usable
