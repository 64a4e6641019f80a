"""Personal data is masked, and what only looks like it is left alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.score.names import PII_KINDS
from components.score.pii import mask

PLACEHOLDER = re.compile(r"\[(?:EMAIL|PHONE|ID|IP|CARD|IBAN|KEY)\]")
LOT = "k3J9sd8Fj2mQ0xZp7L1v"

MASKED = [
    ("mail john.doe+news@mail.example.com now", "mail [EMAIL] now"),
    ("邮箱：xiao_ming@example.com.cn，谢谢", "邮箱：[EMAIL]，谢谢"),
    ("a@b.cn,c＠d.org", "[EMAIL],[EMAIL]"),
    ("电话13812345678。", "电话[PHONE]。"),
    ("手机：138-1234-5678", "手机：[PHONE]"),
    ("打+86 138 1234 5678找我", "打[PHONE]找我"),
    ("13812345678/13912345678", "[PHONE]/[PHONE]"),
    ("座机010-62345678转3", "座机[PHONE]"),
    ("电话：(0311) 86911999", "电话：[PHONE]"),
    ("客服（021）62345678", "客服[PHONE]"),
    ("热线400-820-8820", "热线[PHONE]"),
    ("call (212) 555-0134 today", "call [PHONE] today"),
    ("call 212-555-0134, or 1-415-555-2671.", "call [PHONE], or [PHONE]."),
    ("+44 20 7946 0958 and +1 (212) 555-0134", "[PHONE] and [PHONE]"),
    ("身份证11010519491231002X。", "身份证[ID]。"),
    ("from 93.184.216.34 port 80", "from [IP] port 80"),
    ("at 2001:4860:4860::8888 and 2a00:1450:4001:81b:0:0:0:200e", "at [IP] and [IP]"),
    ("card 4111 1111 1111 1111", "card [CARD]"),
    ("5500-0000-0000-0004 or 378282246310005", "[CARD] or [CARD]"),
    ("银行卡6222021234567890128", "银行卡[CARD]"),
    ("pay to GB82 WEST 1234 5698 7654 32 now", "pay to [IBAN] now"),
    ("DE89370400440532013000", "[IBAN]"),
    ("AKIAIOSFODNN7EXAMPLE", "[KEY]"),
    (f"ghp_{'a1B2' * 9}", "[KEY]"),
    (f"api_key = '{LOT}'", "api_key = '[KEY]'"),
    (f"密码：{LOT}", "密码：[KEY]"),
    (f"Authorization: Bearer {LOT}{LOT}", "Authorization: Bearer [KEY]"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", "[KEY]"),
    ("x\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\ny", "x\n[KEY]\ny"),
]
LEFT_ALONE = [
    "on 2024-01-02 at 12:30:45, or 2019年12月31日10:10:10",
    "20240102123045 and 1700000000 and 1700000000123",
    "1939-1945, 1914-1918 and 2012-13",
    "ISBN 978-7-111-12345-6, ISBN 0-306-40615-2",
    "version 10.15.7.3, v1.2.3.4, section 1.2.3.4, release 12.34.56.78",
    "hosts 192.168.1.1, 10.0.0.255, 127.0.0.1, 192.0.2.1 and ::1, fe80::1",
    "256.300.1.1 and 1.2.3",
    "订单号：13812345678，流水号 13912345678，编号13712345678",
    "order 13812345678, tracking number: 13812345678, ID 4111111111111111",
    "订单2023110512345678901，快递单号 75312345678901",
    "QQ：1381234567，QQ群 13812345678",
    "std::vector and ffff::main and 12:30:45:12:00",
    "pi is 3.14159265358979, or 1,234,567,890",
    "a@b, @someone, user@localhost and @media",
    "icon@2x.png",
    "12345678901234567890 and 00000000000",
    "a token and a password are words; secret key management systems, tokenization",
    "doi:10.1000/182 and 10.1038/s41586-020-2649-2",
    "sha 9fceb02d0ae598e95dc970b74767f19372d61af8 of 550e8400-e29b-41d4-a716-446655440000",
    "身份证11010519491231002A和110105194912310021",
    "张三，110105199913450012",
    "4111 1111 1111 1112 and 1234 5678 9012 3456",
    "GB82 WEST 1234 5698 7654 33 and FR12 ABCD 1234",
    "price 138.12345678, model X13812345678Y",
    "http://example.org/13812345678/page-212-555-0134.html",
    "the answer of 100-200-3000 or 123-45-6789",
]


@pytest.mark.parametrize(("text", "masked"), MASKED)
def test_personal_data_is_replaced_by_its_kind(text: str, masked: str) -> None:
    found, counts = mask(text, PII_KINDS)
    assert found == masked
    assert counts.total() == len(PLACEHOLDER.findall(masked))


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert mask(text, PII_KINDS) == (text, {})


def test_every_kind_is_counted_under_its_name() -> None:
    text = "a@b.org 13812345678 11010519491231002X 93.184.216.34 4111111111111111 DE89370400440532013000 "
    _, counts = mask(text + "AKIAIOSFODNN7EXAMPLE", PII_KINDS)
    assert counts == dict.fromkeys(PII_KINDS, 1)


PIECES = st.sampled_from(
    [*(text for text, _ in MASKED), *LEFT_ALONE, " ", "\n", "/", "-", ".", ":", "+", "@", "1", "13812345678", "86", "x"]
)


TEXTS = st.one_of(
    st.lists(PIECES, max_size=6).map("".join), st.text(max_size=60), st.text("0123456789.-:@+/ aE", max_size=60)
)


def assert_masked_once_for_all(text: str) -> None:
    masked, counts = mask(text, PII_KINDS)
    again, more = mask(masked, PII_KINDS)
    assert again == masked
    assert not more
    kept = PLACEHOLDER.split(masked)
    assert counts.total() == len(kept) - 1 - len(PLACEHOLDER.findall(text))
    position = 0  # what is left stands in the text, in its order
    for part in kept:
        place = text.find(part, position)
        assert place >= 0
        position = place + len(part)


@example("13812345678-13912345678-a@b.org")
@given(TEXTS)
def test_masking_twice_is_masking_once_and_hides_nothing_else(text: str) -> None:
    assert_masked_once_for_all(text)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(TEXTS)
def test_masking_twice_is_masking_once_for_twenty_thousand_texts(text: str) -> None:
    assert_masked_once_for_all(text)


@given(st.integers(10**14, 10**15 - 1))
def test_of_made_up_card_numbers_only_those_with_the_right_last_digit_are_masked(number: int) -> None:
    body = "4" + str(number)[:14]
    masked = [last for last in "0123456789" if mask(f"pay {body}{last} now", ("card",))[1]]
    assert len(masked) == 1


@pytest.mark.parametrize(
    "text", ["1" * 50_000, "1-" * 25_000, "a." * 25_000 + "@", "AB12 " * 10_000, "::" * 20_000, "eyJ" * 10_000]
)
def test_endless_runs_of_candidates_take_no_endless_time(text: str) -> None:
    mask(text, PII_KINDS)
