"""Encodings: declared, undeclared, misdeclared and broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract.decode import REPLACEMENT, decode_page

TEXTS = {
    "zh": "今天天气很好，我们去公园散步。孩子们在草地上奔跑，老人在树下下棋。",
    "hant": "今天天氣很好，我們去公園散步。孩子們在草地上奔跑，老人在樹下下棋。",
    "gbk": "朱镕基、陶喆和王祎在一起，今天天气很好，我们去公园散步。",
    "four bytes": "㐂字和𠀀字都要四个字节，今天天气很好，我们去公园散步。孩子们在草地上奔跑。",
    "hk": "佢哋喺公園散步，今日天氣好好，啲細路喺草地度跑嚟跑去。",
    "ja": "今日はとても天気がいいので、公園へ散歩に行きました。",
    "ko": "오늘은 날씨가 아주 좋아서 우리는 공원에 산책하러 갔습니다.",
    "ko syllables": "똠방각하와 펲시콜라를 보고 오늘은 날씨가 아주 좋아서 공원에 갔습니다.",
    "ru": "Сегодня очень хорошая погода, и мы пошли гулять в парк.",
    "uk": "Сьогодні дуже гарна погода, і ми пішли гуляти в парк, їжак спить.",
    "fr": "Le café était déjà fermé, nous sommes allés à la bibliothèque.",
    "quotes": "He said “no” — that’s all… The price was 5 €.",
    "pl": "Dziś jest bardzo ładna pogoda, więc poszliśmy na spacer do parku. Żółw śpi.",
    "el": "Σήμερα ο καιρός είναι πολύ καλός και πήγαμε βόλτα στο πάρκο.",
    "tr": "Bugün hava çok güzel, parka yürüyüşe gittik. Şimdi ağaçların altındayız.",
    "he": "היום מזג האוויר יפה מאוד והלכנו לטייל בפארק עם הילדים.",
    "ar": "الطقس جميل جدا اليوم وذهبنا للتنزه في الحديقة مع الأطفال.",
    "lt": "Šiandien labai gražus oras, todėl nuėjome į parką pasivaikščioti.",
    "vi": "Hôm nay tôi đi chơi o nhà ông, đông đu quá, tôi ngôi bên cây đa.",
    "th": "วันนี้อากาศดีมากเราไปเดินเล่นที่สวนสาธารณะกับเด็กๆ",
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


# Text, the encoding that its bytes are in, what the page says of it, what the server says of it.
MATRIX = [
    # The truth, told by the page, by the server, and by an old name.
    ("zh", "gbk", "gbk", ""),
    ("zh", "gbk", "", "gbk"),
    ("zh", "gb2312", "gb2312", ""),
    ("zh", "gb18030", "gb18030", ""),
    ("hant", "big5", "big5", ""),
    ("hant", "big5", "", "Big5"),
    ("hk", "big5hkscs", "big5-hkscs", ""),
    ("ja", "shift_jis", "Shift_JIS", ""),
    ("ja", "cp932", "x-sjis", ""),
    ("ja", "euc_jp", "euc-jp", ""),
    ("ja", "iso2022_jp", "iso-2022-jp", ""),
    ("ko", "euc_kr", "euc-kr", ""),
    ("ko", "cp949", "ks_c_5601-1987", ""),
    ("ru", "cp1251", "windows-1251", ""),
    ("ru", "koi8_r", "koi8-r", ""),
    ("uk", "koi8_u", "koi8-u", ""),
    ("uk", "cp1251", "windows-1251", ""),
    ("ru", "iso8859_5", "iso-8859-5", ""),
    ("ru", "cp866", "ibm866", ""),
    ("pl", "cp1250", "windows-1250", ""),
    ("pl", "iso8859_2", "iso-8859-2", ""),
    ("fr", "cp1252", "windows-1252", ""),
    ("fr", "iso8859_15", "iso-8859-15", ""),
    ("fr", "mac_roman", "macintosh", ""),
    ("el", "cp1253", "windows-1253", ""),
    ("el", "iso8859_7", "iso-8859-7", ""),
    ("tr", "cp1254", "windows-1254", ""),
    ("tr", "iso8859_9", "iso-8859-9", ""),
    ("he", "cp1255", "windows-1255", ""),
    ("he", "iso8859_8", "iso-8859-8-i", ""),
    ("ar", "cp1256", "windows-1256", ""),
    ("ar", "iso8859_6", "iso-8859-6", ""),
    ("lt", "cp1257", "windows-1257", ""),
    ("vi", "cp1258", "windows-1258", ""),
    ("th", "cp874", "windows-874", ""),
    ("th", "tis_620", "tis-620", ""),
    # A smaller set is named than the one in use.
    ("gbk", "gbk", "gb2312", ""),
    ("gbk", "gbk", "", "gb2312"),
    ("four bytes", "gb18030", "gb2312", ""),
    ("four bytes", "gb18030", "gbk", ""),
    ("hk", "big5hkscs", "big5", ""),
    ("ko syllables", "cp949", "euc-kr", ""),
    ("quotes", "cp1252", "iso-8859-1", ""),
    ("quotes", "cp1252", "us-ascii", ""),
    # The page lies, or the server does, or both.
    ("zh", "utf-8", "gb2312", ""),
    ("zh", "utf-8", "utf-8", "gbk"),
    ("hant", "big5", "big5", "utf-8"),
    ("zh", "gbk", "utf-8", ""),
    ("zh", "gbk", "utf-8", "utf-8"),
    ("zh", "gbk", "gbk", "big5"),
    ("hant", "big5", "gb2312", ""),
    ("hant", "big5", "", "gbk"),
    ("ja", "shift_jis", "euc-jp", ""),
    ("ja", "euc_jp", "shift_jis", ""),
    ("ja", "shift_jis", "gb2312", ""),
    ("ko", "euc_kr", "iso-8859-1", ""),
    ("ko", "euc_kr", "", "windows-1252"),
    ("zh", "gbk", "windows-1251", ""),
    ("zh", "gbk", "iso-8859-2", "iso-8859-2"),
    ("ru", "cp1251", "iso-8859-1", "iso-8859-1"),
    ("ru", "koi8_r", "windows-1251", ""),
    ("ru", "cp1251", "koi8-r", ""),
    ("zh", "utf-8", "utf-16", ""),
    ("zh", "utf-16-le", "gbk", "gbk"),
    # Nobody says anything.
    ("zh", "utf-16-le", "", ""),
    ("zh", "utf-16-be", "", ""),
    ("fr", "utf-16-le", "", "utf-16"),
    ("ja", "utf-16-be", "", "utf-16"),
    ("zh", "utf-32", "", ""),
    ("ja", "iso2022_jp", "", ""),
    ("ru", "koi8_r", "", ""),
    ("el", "cp1253", "", ""),
    ("he", "cp1255", "", ""),
    ("ar", "cp1256", "", ""),
    ("th", "cp874", "", ""),
    ("hk", "big5hkscs", "", ""),
    ("four bytes", "gb18030", "", ""),
    ("ko syllables", "cp949", "", ""),
]


@pytest.mark.parametrize(("text", "codec", "meta", "header"), MATRIX)
def test_a_page_is_read_in_the_encoding_that_it_is_in(text: str, codec: str, meta: str, header: str) -> None:
    payload = page(TEXTS[text], meta).encode(codec)
    decoded = decode_page(payload, f"text/html; charset={header}" if header else "text/html")
    assert TEXTS[text] * 3 in decoded.text
    assert REPLACEMENT not in decoded.text


@pytest.mark.parametrize(
    ("before", "label"),
    [
        ("<script>" + "x" * 9000 + "</script>", '<meta charset="windows-1250">'),
        ("<!-- <meta charset=big5> -->", "<meta charset=windows-1250>"),
        ('<?xml version="1.0" encoding="windows-1250"?>', ""),
        ("", "<meta http-equiv='Content-Type' content='text/html; charset=windows-1250'>"),
        ("", "<META CONTENT='text/html; CHARSET = \"Windows-1250\"' HTTP-EQUIV='Content-Type'>"),
        ("", "<meta name=x content=y><meta charset='windows-1250' />"),
    ],
)
def test_a_label_is_found_wherever_pages_put_it(before: str, label: str) -> None:
    payload = f"{before}<html><head>{label}</head><body><p>{TEXTS['pl']}</p></body></html>".encode("cp1250")
    assert TEXTS["pl"] in decode_page(payload).text


def test_a_euro_sign_of_windows_in_a_big5_page_is_read() -> None:
    text = TEXTS["hant"] + "只要 5 €"
    assert text in decode_page(page(text, "big5").encode("cp950")).text


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
