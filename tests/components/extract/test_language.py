"""Which language a text is in."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract.language import UNKNOWN, detect_language


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("zh", "昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里。"),
        ("zh", "昨天夜裡河水漲了兩米，到了早上，下街已經全部泡在水裡。"),
        ("zh", "用 Python 的 NumPy 和 pandas 处理数据很方便，推荐使用 Jupyter notebook。"),
        ("ja", "昨夜は川の水が二メートルも上がり、朝には下の通りが水に浸かった。"),
        ("ko", "어젯밤 강물이 2미터나 올라 아침에는 아랫길이 모두 물에 잠겼다."),
        ("ru", "Ночью река поднялась на два метра, и к утру нижняя улица была под водой."),
        ("uk", "Вночі річка піднялася на два метри, і до ранку нижня вулиця була під водою, її затопило."),
        ("en", "The river rose two metres in one night, and the lower street was under water."),
        ("en", "THE RIVER ROSE TWO METRES IN ONE NIGHT AND THE STREET WAS UNDER WATER"),
        ("en", "hey how are you\ngood and you\nnot bad, what are you up to today"),
        ("de", "Der Fluss stieg in einer Nacht um zwei Meter, und am Morgen stand die Straße unter Wasser."),
        ("fr", "La rivière est montée de deux mètres en une nuit, et la rue était sous l'eau."),
        ("en", "The word 河 means river, and this sentence about it is written in plain English."),
    ],
)
def test_the_language_of_a_sentence(lang: str, text: str) -> None:
    assert detect_language(text) == lang


@pytest.mark.parametrize("text", ["", "   \n", "12345 67", "?!?! ... ###", "\ufffd\ufffd"])
def test_what_has_no_letters_has_no_known_language(text: str) -> None:
    assert detect_language(text) == UNKNOWN


def test_the_model_is_in_the_wheel_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert detect_language("The network is not needed to tell that this is English.") == "en"


@given(st.text(max_size=200))
def test_any_text_has_an_answer(text: str) -> None:
    assert detect_language(text)
