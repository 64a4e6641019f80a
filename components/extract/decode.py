"""Bytes of a page to text: which encoding it really is, whatever it says it is.

Labels lie: servers say ISO-8859-1 by default, pages say gb2312 and hold GBK, editors save UTF-8 under an old label. So
the order is: byte order mark; then UTF-16 by where the zero bytes of its mark-up stand; then UTF-8 if the bytes are
valid UTF-8 (random text in another encoding almost never is); then the labels, the HTTP header's before the page's own,
each only if it decodes without a fault and no other encoding makes far better text of the same bytes; then a guess by
which encoding gives characters that people use (first-level hanzi, kana, hangul, words of Cyrillic, Greek, Arabic,
Hebrew or Thai letters, lone accented letters). What a guess cannot tell is one Latin alphabet from another: a Polish
page in windows-1250 needs its label.
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
    "koi8_r": ("koi8-r", "koi8", "koi", "cskoi8r"),
    "koi8_u": ("koi8-u", "koi8-ru"),
    "cp866": ("ibm866", "cp866", "866"),
    "iso8859_5": ("iso-8859-5", "cyrillic"),
    "cp1250": ("windows-1250", "cp1250"),
    "iso8859_2": ("iso-8859-2", "latin2"),
    "cp1252": ("iso-8859-1", "latin1", "latin-1", "iso8859-1", "us-ascii", "ascii", "windows-1252", "cp1252"),
    "iso8859_15": ("iso-8859-15", "latin9"),
    "cp1253": ("windows-1253", "cp1253"),
    "iso8859_7": ("iso-8859-7", "greek"),
    "cp1254": ("windows-1254", "cp1254", "iso-8859-9", "latin5"),
    "cp1255": ("windows-1255", "cp1255", "iso-8859-8", "iso-8859-8-i", "hebrew"),
    "cp1256": ("windows-1256", "cp1256"),
    "iso8859_6": ("iso-8859-6", "arabic"),
    "mac_roman": ("macintosh", "mac", "x-mac-roman"),
    "cp1257": ("windows-1257", "cp1257"),
    "iso8859_4": ("iso-8859-4", "latin4"),
    "iso8859_13": ("iso-8859-13",),
    "cp1258": ("windows-1258",),
    "cp874": ("windows-874", "tis-620", "iso-8859-11"),
    "utf-8": ("utf-8", "utf8"),
    "utf-16-le": ("utf-16", "utf-16le"),
    "utf-16-be": ("utf-16be",),
}
_CODEC_OF_LABEL = {label: codec for codec, labels in _SUPERSETS.items() for label in labels}
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_META = re.compile(
    rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})|<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([\w.:-]{2,40})",
    re.IGNORECASE,
)
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
# Browsers look for the label in the first 1,024 bytes; pages put it behind long scripts.
_PRESCAN_BYTES = 65_536
_LOOKED_AT_BYTES = 262_144
_GUESS_BYTES = 8_192
_ASCII_RUN = re.compile(rb"([\x00-\x7f]{2})[\x00-\x7f]{6,}([\x00-\x7f]{2})")
# A guess of a lower score is no better than what the page says, or than UTF-8.
_CONVINCING = 0.5
# A label is disbelieved if its text is not convincing and another encoding's is this good, and so much better.
_SURE = 0.85
_FAR_BETTER = 0.3
_EAST_ASIAN = ("cp949", "gb18030", "big5hkscs", "cp932", "euc_jp")
# Encodings of the same letters as one that is guessed.
_ALIKE = {"koi8_u": "koi8_r", "cp866": "cp1251", "iso8859_5": "cp1251", "iso8859_7": "cp1253", "iso8859_6": "cp1256"}
_WIDE_BYTES = 4096
_WIDE_SHARE = 0.2  # of the characters at least are mark-up
_JIS_ESCAPE = b"\x1b$"
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
        utf8: The text in UTF-8, where the page's own bytes are that; else None.
    """

    text: str
    codec: str
    reason: str
    utf8: bytes | None = None


def decode_page(payload: bytes, content_type: str = "") -> Decoded:
    """Decodes a page; never raises.

    Args:
        payload: The body, any bytes.
        content_type: Value of the HTTP Content-Type header, empty if there was none.
    """
    for mark, codec in _BOMS:
        if payload.startswith(mark):
            return Decoded(payload[len(mark) :].decode(codec, "replace"), codec, "bom")
    wide = _wide(payload)
    if wide:
        return Decoded(payload.decode(wide, "replace"), wide, "guess")
    if not _has_jis_escape(payload):  # of the one encoding here whose bytes are all ASCII
        text = _strict(payload, "utf-8")
        if text is not None:
            return Decoded(text, "utf-8", "valid", payload)
    labels = _labels(payload, content_type)
    for reason, codec in labels.items():
        text = _labelled(payload, codec) if codec != _WEAK else None
        if text is not None:
            return Decoded(text, codec, reason)
    codec = _guess(payload, labels)
    return Decoded(payload.decode(codec, "replace"), codec, "guess")


def _wide(payload: bytes) -> str:
    """UTF-16 without a mark, told by the zero bytes: mark-up is ASCII, and half of each character of it is zero."""
    head = payload[:_WIDE_BYTES]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) < _WIDE_SHARE * len(head) / 2 or min(even, odd) * 20 > max(even, odd):
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _has_jis_escape(payload: bytes) -> bool:
    """Looks for the one byte first, which takes a thirtieth of the time that looking for both does."""
    return _JIS_ESCAPE[0] in payload and _JIS_ESCAPE in payload


def _labelled(payload: bytes, codec: str) -> str | None:
    """The page under a label, unless that has faults or another encoding makes far better text of it."""
    text = _strict(payload, codec)
    if text is None and codec == "big5hkscs":
        text = _strict(payload, "cp950")  # which has a few characters of its own, the euro sign for one
    if text is None:
        return None
    sample = _sample(payload)
    own = _score(sample, _ALIKE.get(codec, codec), codec)
    rivals = _EAST_ASIAN if own is None else [other for other in _candidates() if other not in (codec, _WEAK)]
    if own is not None and own >= _CONVINCING:
        return text
    better = max(_score(sample, rival) or 0.0 for rival in rivals)
    return text if better < max(_SURE, (own or 0.0) + _FAR_BETTER) else None


def _labels(payload: bytes, content_type: str) -> dict[str, str]:
    found: dict[str, str] = {}
    header = _CHARSET.search(content_type.encode("latin-1", "replace"))
    meta = _META.search(_COMMENT.sub(b"", payload[:_PRESCAN_BYTES]))
    for reason, match in (("header", header), ("meta", meta)):
        label = next(filter(None, match.groups()), b"") if match else b""
        codec = _CODEC_OF_LABEL.get(label.decode("ascii", "replace").lower())
        if codec is None:
            continue
        # A page whose own label could be read as ASCII is not UTF-16, whatever it says.
        if reason == "meta" and codec.startswith("utf-16"):
            codec = "utf-8"
        found[reason] = codec
    return found


def _sample(payload: bytes) -> bytes:
    """What tells encodings apart: the bytes beyond ASCII, each with two neighbours (of which one may belong to it)."""
    head = payload[:_LOOKED_AT_BYTES]
    return head[:_GUESS_BYTES] if _has_jis_escape(head) else _ASCII_RUN.sub(rb"\1 \2", head)[:_GUESS_BYTES]


def _strict(payload: bytes, codec: str) -> str | None:
    try:
        return payload.decode(codec)
    except UnicodeDecodeError:
        return None


def _guess(payload: bytes, labels: dict[str, str]) -> str:
    """The most plausible codec; the page's label where it does about as well, or where nothing convinces."""
    sample = _sample(payload)
    scores = {codec: _score(sample, codec) or 0.0 for codec in _candidates()}
    for codec in labels.values():
        scores[codec] = scores.get(codec, 0.5 if not _faults(sample, codec) else 0.0) + 0.1
    best = max(scores, key=lambda codec: scores[codec])
    return best if scores[best] >= _CONVINCING else next(iter(labels.values()), "utf-8")


def _score(sample: bytes, kind: str, codec: str = "") -> float | None:
    """How plausible a sample is as text of one kind of encoding; None if nothing is known of that kind."""
    scorer = _candidates().get(kind)
    return scorer(sample.decode(codec or kind, "replace")) if scorer else None


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
        "iso2022_jp": lambda text: _share(_japanese(text), text),
        # Before Cyrillic: Hebrew bytes are all small Cyrillic letters too, but those are more than Hebrew has.
        "cp1255": _in_words("\u05d0-\u05ea"),
        "cp1251": lambda text: _share(_cyrillic(text), text),
        "koi8_r": lambda text: _share(_cyrillic(text), text),
        "cp1253": _in_words("\u0386-\u03ce"),
        "cp1256": _in_words("\u0621-\u0652\u067e\u0686\u0698\u06af"),
        "cp874": _in_words("\u0e01-\u0e4e"),
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


def _in_words(letters: str) -> Score:
    """Letters of an alphabet in runs, as words have them."""
    words = re.compile(f"[{letters}]{{2,}}")
    return lambda text: _share(sum(map(len, words.findall(text))) + len(_TYPOGRAPHY.findall(text)), text)


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


def _cyrillic(text: str) -> int:
    """Cyrillic letters in runs, as words have them: small ones, the first perhaps a capital."""
    return sum(map(len, _CYRILLIC_WORDS.findall(text))) + len(_TYPOGRAPHY.findall(text))


def _western(text: str) -> int:
    """Accented letters alone or in pairs between others: three in a row are another script misread."""
    return sum(map(len, _ACCENTED.findall(text))) + len(_TYPOGRAPHY.findall(text))


_FOREIGN = re.compile("[\x00-\x7f]+")
_KANA = re.compile("[\u3041-\u30ff]")
_SMALL, _CAPITAL = "\u0430-\u045f\u0491", "\u0401-\u042f\u0490"
_CYRILLIC_WORDS = re.compile(
    f"[{_CAPITAL}][{_SMALL}]{{2,}}|[{_SMALL}]{{3,}}|(?<![{_SMALL}{_CAPITAL}])[{_SMALL}]{{1,2}}(?![{_SMALL}{_CAPITAL}])"
)
_LATIN_ONE = "\u00c0-\u00ff\u0152\u0153\u0160\u0161"
_ACCENTED = re.compile(f"(?<![{_LATIN_ONE}])[{_LATIN_ONE}]{{1,2}}(?![{_LATIN_ONE}])")
_TYPOGRAPHY = re.compile("[\u00a0\u00a9\u00ab\u00ae\u00b0\u00bb\u2013\u2014\u2018-\u201d\u2022\u2026\u20ac\u2122]")
