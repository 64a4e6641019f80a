"""Bytes of a page to text: which encoding it really is, whatever it says it is.

Labels lie: servers say ISO-8859-1 by default, pages say gb2312 and hold GBK, editors save UTF-8 under an old label. So
the order is: byte order mark; then UTF-8 if the bytes are valid UTF-8 (random text in another encoding almost never
is); then the labels, the HTTP header's before the page's own, each only if it decodes without a fault; then a guess
by which encoding gives characters that people use (first-level hanzi, kana, hangul, Cyrillic, lone accented letters).
Nothing here raises on any bytes: what cannot be decoded becomes U+FFFD, and the share of those tells the caller.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

REPLACEMENT = "\ufffd"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Label families as browsers read them (WHATWG Encoding): the superset that old labels really mean.
_SUPERSETS = {
    "gb18030": (
        "gb2312",
        "gb_2312",
        "gb_2312-80",
        "gbk",
        "x-gbk",
        "cp936",
        "ms936",
        "windows-936",
        "gb18030",
        "chinese",
    ),
    "big5hkscs": ("big5", "big5-hkscs", "big-5", "cn-big5", "x-x-big5", "cp950"),
    "cp932": ("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j", "ms932"),
    "euc_jp": ("euc-jp", "x-euc-jp"),
    "iso2022_jp": ("iso-2022-jp",),
    "cp949": ("euc-kr", "ks_c_5601-1987", "ksc5601", "korean", "windows-949", "cseuckr"),
    "cp1251": ("windows-1251", "cp1251", "x-cp1251"),
    "koi8_r": ("koi8-r", "koi8", "koi"),
    "cp1250": ("windows-1250", "cp1250"),
    "iso8859_2": ("iso-8859-2", "latin2"),
    "cp1252": ("iso-8859-1", "latin1", "latin-1", "iso8859-1", "us-ascii", "ascii", "windows-1252", "cp1252"),
    "iso8859_15": ("iso-8859-15",),
    "cp1253": ("windows-1253", "iso-8859-7"),
    "cp1254": ("windows-1254", "iso-8859-9"),
    "cp1255": ("windows-1255", "iso-8859-8"),
    "cp1256": ("windows-1256", "iso-8859-6"),
    "cp1258": ("windows-1258",),
    "cp874": ("windows-874", "tis-620", "iso-8859-11"),
    "utf-8": ("utf-8", "utf8"),
    "utf-16-le": ("utf-16", "utf-16le"),
    "utf-16-be": ("utf-16be",),
}
_CODEC_OF_LABEL = {label: codec for codec, labels in _SUPERSETS.items() for label in labels}
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_META = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_PRESCAN_BYTES = 4096
_GUESS_BYTES = 65_536
# A guess of a lower score is no better than what the page says, or than UTF-8.
_CONVINCING = 0.5
_DOUBT = 4  # characters that a script must be ahead by
# A label of this codec is the default of many servers, so it says little; any bytes decode under it.
_WEAK = "cp1252"


@dataclass(frozen=True)
class Decoded:
    """A page as text.

    Attributes:
        text: The page; undecodable bytes are U+FFFD.
        codec: Python codec that was used.
        reason: How it was found: bom, valid, header, meta or guess.
    """

    text: str
    codec: str
    reason: str


def decode_page(payload: bytes, content_type: str = "") -> Decoded:
    """Decodes a page; never raises.

    Args:
        payload: The body, any bytes.
        content_type: Value of the HTTP Content-Type header, empty if there was none.
    """
    for mark, codec in _BOMS:
        if payload.startswith(mark):
            return Decoded(payload[len(mark) :].decode(codec, "replace"), codec, "bom")
    labels = _labels(payload, content_type)
    if "iso2022_jp" not in labels.values():  # the one labelled encoding here whose bytes are all ASCII
        text = _strict(payload, "utf-8")
        if text is not None:
            return Decoded(text, "utf-8", "valid")
    for reason, codec in labels.items():
        if codec != _WEAK:
            text = _strict(payload, codec)
            if text is not None:
                return Decoded(text, codec, reason)
    codec = _guess(payload, labels)
    return Decoded(payload.decode(codec, "replace"), codec, "guess")


def _labels(payload: bytes, content_type: str) -> dict[str, str]:
    found: dict[str, str] = {}
    header = _CHARSET.search(content_type.encode("latin-1", "replace"))
    meta = _META.search(payload[:_PRESCAN_BYTES])
    for reason, match in (("header", header), ("meta", meta)):
        codec = _CODEC_OF_LABEL.get(match.group(1).decode("ascii", "replace").lower()) if match else None
        if codec is None:
            continue
        # A page whose own label could be read as ASCII is not UTF-16, whatever it says.
        if reason == "meta" and codec.startswith("utf-16"):
            codec = "utf-8"
        found[reason] = codec
    return found


def _strict(payload: bytes, codec: str) -> str | None:
    try:
        return payload.decode(codec)
    except UnicodeDecodeError:
        return None


def _guess(payload: bytes, labels: dict[str, str]) -> str:
    """The most plausible codec; the page's label where it does about as well, or where nothing convinces."""
    sample = payload[:_GUESS_BYTES]
    scores = {codec: score(sample.decode(codec, "replace")) for codec, score in _candidates().items()}
    for codec in labels.values():
        scores[codec] = scores.get(codec, 0.5 if not _faults(sample, codec) else 0.0) + 0.1
    best = max(scores, key=lambda codec: scores[codec])
    return best if scores[best] >= _CONVINCING else next(iter(labels.values()), "utf-8")


def _faults(sample: bytes, codec: str) -> int:
    return sample.decode(codec, "replace").count(REPLACEMENT)


Score = Callable[[str], float]


@cache
def _candidates() -> dict[str, Score]:
    """Codecs to guess among, in order of preference at equal scores, each with its score of a text decoded by it."""
    punctuation = "\u3000-\u3002\u3008-\u3011\u2014\u2018-\u201d\u2026\uff01-\uff5e"
    return {
        "utf-8": _utf8,
        # Before GB 18030: Korean bytes are all frequent hanzi too, but Chinese bytes are seldom all hangul.
        "cp949": _share_of("\uac00-\ud7a3" + punctuation),
        "gb18030": _share_of(_level_one("gb2312", range(0xB0, 0xD8), (0xA1, 0xFF)) + punctuation),
        "big5hkscs": _share_of(_level_one("big5", range(0xA4, 0xC7), (0x40, 0xFF)) + punctuation),
        "cp932": lambda text: _share(_japanese(text), text),
        "euc_jp": lambda text: _share(_japanese(text), text),
        "cp1251": lambda text: _share(_russian(text), text),
        "cp1252": lambda text: _share(_western(text), text, doubt=0),
    }


def _share(plausible: int, text: str, doubt: int = _DOUBT) -> float:
    """Share of the non-ASCII characters that this encoding's readers use; a fault counts as two bad ones.

    A handful of characters proves no other script, only that a Western page has an accent or a quote in it: hence the
    doubt.
    """
    num_foreign = len(_FOREIGN.sub("", text))
    return plausible / (num_foreign + text.count(REPLACEMENT) + doubt) if num_foreign else 0.0


def _share_of(members: str) -> Score:
    pattern = re.compile(f"[^{members}]+")
    return lambda text: _share(len(pattern.sub("", text)), text)


def _utf8(text: str) -> float:
    """Counted in bytes, because two or three of them that fit together prove more than one that does not disproves."""
    faults = text.count(REPLACEMENT)
    sound = len(_FOREIGN.sub("", text).replace(REPLACEMENT, "").encode())
    return sound / (sound + 2 * faults + _DOUBT)


def _level_one(codec: str, leads: range, trails: tuple[int, int]) -> str:
    """The frequent characters of a double-byte set: its first level, which both standards order by use."""
    cells = (bytes((lead, trail)) for lead in leads for trail in range(*trails))
    return "".join(char for cell in cells if (char := cell.decode(codec, "ignore")) and char > "\u2fff")


def _japanese(text: str) -> int:
    """All of the text if enough of it is kana, as in any Japanese; else nothing."""
    foreign = _FOREIGN.sub("", text)
    kana = len(_KANA.findall(foreign))
    return len(foreign) - foreign.count(REPLACEMENT) if kana > 0.2 * len(foreign) else 0


def _russian(text: str) -> int:
    """Cyrillic letters in runs, as words have them."""
    return sum(map(len, _CYRILLIC_WORDS.findall(text))) + len(_TYPOGRAPHY.findall(text))


def _western(text: str) -> int:
    """Accented letters alone or in pairs between others: three in a row are another script misread."""
    return sum(map(len, _ACCENTED.findall(text))) + len(_TYPOGRAPHY.findall(text))


_FOREIGN = re.compile("[\x00-\x7f]+")
_KANA = re.compile("[\u3041-\u30ff]")
_CYRILLIC_WORDS = re.compile("[\u0410-\u044f\u0401\u0451]{3,}")
_LATIN_ONE = "\u00c0-\u00ff\u0152\u0153\u0160\u0161"
_ACCENTED = re.compile(f"(?<![{_LATIN_ONE}])[{_LATIN_ONE}]{{1,2}}(?![{_LATIN_ONE}])")
_TYPOGRAPHY = re.compile("[\u00a0\u00a9\u00ab\u00ae\u00b0\u00bb\u2013\u2014\u2018-\u201d\u2022\u2026\u20ac\u2122]")
