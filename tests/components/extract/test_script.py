"""Which script a text is written in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract.language import detect_language_and_script
from components.extract.script import script_of


@pytest.mark.parametrize(
    ("text", "lang", "script"),
    [
        ("The river rose two metres in one night.", "en", "Latn"),
        ("昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里。", "zh", "Hans"),
        ("昨天夜裡河水漲了兩米，到了早上，下街已經全部泡在水裡。", "zh", "Hant"),
        ("天地人", "zh", "Hani"),
        ("用 Python 的 NumPy 处理数据很方便。", "zh", "Hans"),
        ("昨夜は川の水が二メートルも上がり、朝には下の通りが水に浸かった。", "ja", "Jpan"),
        ("어젯밤 강물이 2미터나 올라 아침에는 아랫길이 모두 물에 잠겼다.", "ko", "Kore"),
        ("Ночью река поднялась на два метра, и к утру нижняя улица была под водой.", "ru", "Cyrl"),
        ("Вночі річка піднялася на два метри, і до ранку нижня вулиця була під водою, її затопило.", "uk", "Cyrl"),
        ("Ο ποταμός ανέβηκε δύο μέτρα μέσα σε μια νύχτα.", "el", "Grek"),
        ("ارتفع النهر مترين في ليلة واحدة، وغمرت المياه الشارع.", "ar", "Arab"),
        ("הנהר עלה שני מטרים בלילה אחד, והרחוב היה מתחת למים.", "he", "Hebr"),
        ("नदी एक रात में दो मीटर बढ़ गई और गली पानी में डूब गई।", "hi", "Deva"),
        ("แม่น้ำขึ้นสองเมตรในคืนเดียว และถนนจมอยู่ใต้น้ำ", "th", "Thai"),
        ("1, 2, 3 ... !", "und", ""),
        ("", "und", ""),
    ],
)
def test_language_and_script_of_a_sentence(text: str, lang: str, script: str) -> None:
    assert detect_language_and_script(text) == (lang, script)


def test_a_quotation_in_the_other_chinese_does_not_turn_a_text() -> None:
    simplified = "昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里，面包师傅把面粉一袋一袋扛上楼。"
    assert detect_language_and_script(simplified + "招牌上写着「書畫」。") == ("zh", "Hans")


@given(st.characters())
def test_every_character_has_a_script_or_none(char: str) -> None:
    script = script_of(char)
    assert script == "" or (len(script) == 4 and script.istitle())
    if script and ord(char) < 0x3000:
        assert char.isalpha() or not char.isascii()
