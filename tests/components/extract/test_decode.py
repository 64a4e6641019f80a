"""Encodings: declared, undeclared, misdeclared and broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract.decode import REPLACEMENT, decode_page

TEXTS = {
    "zh": "今天天气很好，我们去公园散步。孩子们在草地上奔跑，老人在树下下棋。",
    "hant": "今天天氣很好，我們去公園散步。孩子們在草地上奔跑，老人在樹下下棋。",
    "ja": "今日はとても天気がいいので、公園へ散歩に行きました。",
    "ko": "오늘은 날씨가 아주 좋아서 우리는 공원에 산책하러 갔습니다.",
    "ru": "Сегодня очень хорошая погода, и мы пошли гулять в парк.",
    "fr": "Le café était déjà fermé, nous sommes allés à la bibliothèque.",
}


def page(text: str, label: str = "") -> str:
    meta = f'<meta charset="{label}">' if label else ""
    return f"<html><head>{meta}<title>x</title></head><body><p>{text * 3}</p></body></html>"


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("zh", "utf-8"),
        ("zh", "utf-8-sig"),
        ("zh", "utf-16"),
        ("zh", "gbk"),
        ("zh", "gb18030"),
        ("hant", "big5"),
        ("hant", "gbk"),
        ("ja", "shift_jis"),
        ("ja", "euc_jp"),
        ("ko", "euc_kr"),
        ("ru", "cp1251"),
        ("fr", "cp1252"),
    ],
)
@pytest.mark.parametrize("content_type", ["", "text/html", "text/html; charset=ISO-8859-1"])
def test_undeclared_text_and_text_under_a_servers_default_is_read_right(
    text: str, codec: str, content_type: str
) -> None:
    assert TEXTS[text] in decode_page(page(TEXTS[text]).encode(codec), content_type).text


def test_gbk_text_under_the_label_gb2312_is_read_whole() -> None:
    # These three are in GBK but not in GB 2312; a strict reading of the label loses them.
    text = "朱镕基、陶喆和王祎在一起，" + TEXTS["zh"]
    assert text in decode_page(page(text, "gb2312").encode("gbk")).text


def test_the_header_goes_before_the_pages_own_label() -> None:
    decoded = decode_page(page(TEXTS["ru"], "windows-1251").encode("koi8_r"), "text/html; charset=koi8-r")
    assert (decoded.codec, decoded.reason) == ("koi8_r", "header")
    assert TEXTS["ru"] in decoded.text


def test_valid_utf8_is_utf8_whatever_the_labels_say() -> None:
    decoded = decode_page(page(TEXTS["zh"], "gb2312").encode(), "text/html; charset=big5")
    assert (decoded.codec, decoded.reason) == ("utf-8", "valid")


def test_a_page_cut_inside_a_character_loses_only_that_character() -> None:
    whole = page(TEXTS["zh"], "utf-8").encode()
    cut = whole[: whole.index("散步".encode()) + 4]
    decoded = decode_page(cut)
    assert decoded.codec == "utf-8"
    assert decoded.text.endswith("散" + REPLACEMENT)


def test_a_few_stray_bytes_in_an_english_page_are_faults_and_not_another_script() -> None:
    decoded = decode_page(page("Plain words. ", "utf-8").encode().replace(b"Plain", b"\xff\xfe\xc3(\xe4\xb8 Plain", 1))
    assert decoded.codec == "utf-8"
    assert REPLACEMENT in decoded.text


@pytest.mark.parametrize("label", ["utf-7", "unicode-1-1", "nonsense", "rot13", "base64", "x-user-defined"])
def test_a_label_no_browser_knows_is_passed_over(label: str) -> None:
    assert TEXTS["zh"] in decode_page(page(TEXTS["zh"], label).encode("gbk")).text


@given(payload=st.binary(max_size=300), content_type=st.text(max_size=40))
def test_any_bytes_under_any_header_decode(payload: bytes, content_type: str) -> None:
    decode_page(payload, content_type).text.encode()


@given(
    payload=st.binary(max_size=100), label=st.sampled_from(["gbk", "big5", "shift_jis", "utf-16", "euc-kr", "koi8-r"])
)
def test_any_bytes_under_a_known_label_decode(payload: bytes, label: str) -> None:
    decode_page(page("x", label).encode() + payload, f"text/html; charset={label}").text.encode()
