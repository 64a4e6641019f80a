"""What robots.txt says of training."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.ai_rules import AiRules, read_ai_rules
from components.crawl.robots import read_robots

COLLECTORS = ("CCBot", "GPTBot")
PAGE = "http://e.com/docs/page"


def _refuses(text: str, url: str = PAGE) -> bool:
    return read_ai_rules(text.encode(), "Headwater", COLLECTORS).refuses(url, read_robots(200, text.encode()))


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /", True),
        ("User-agent: *\nContent-Signal: ai-train=yes", False),
        ("User-agent: *\nContent-Signal: search=no", False),
        ("User-agent: *\nContent-Usage: train-ai=n", True),
        ("User-agent: *\nContent-Usage: /docs/ train-ai=n", True),
        ("User-agent: *\nContent-Usage: /other/ train-ai=n", False),
        ("User-agent: *\nContent-Usage: train-ai=n\nContent-Usage: /docs/ train-ai=y", False),
        ("User-agent: *\nDisallowAITraining: /", True),
        ("User-agent: *\nDisallowAITraining: /other", False),
        ("User-agent: *\nDisallowAITraining:", False),
        ("User-agent: GPTBot\nDisallow: /", True),
        ("User-agent: gptbot\nUser-agent: x\nDisallow: /docs/", True),
        ("User-agent: GPTBot\nDisallow: /other", False),
        ("User-agent: OtherBot\nDisallow: /", False),
        ("User-agent: Headwater\nAllow: /\n\nUser-agent: GPTBot\nDisallow: /", False),
        ("User-agent: Headwater\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /", True),
        ("User-agent: Headwater\nAllow: /\n\nUser-agent: *\nContent-Signal: ai-train=no", False),
        ("Sitemap: /x\nContent-Signal: ai-train=no", False),
        ("", False),
    ],
)
def test_owners_who_refuse_training_are_obeyed(text: str, refused: bool):
    assert _refuses(text) == refused


@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet="user-agent:*content-signal/= \nyn", max_size=200).map(str.encode)
    )
)
def test_no_bytes_break_the_reader(body: bytes):
    rules = read_ai_rules(body, "Headwater", COLLECTORS)
    assert isinstance(rules, AiRules)
    rules.refuses(PAGE, read_robots(200, body))
