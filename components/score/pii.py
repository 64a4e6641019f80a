"""Personal data and secrets in a text, replaced by what kind they are of: "[EMAIL]", "[PHONE]", "[CARD]".

A pattern only finds candidates; a check decides: the check digit of an identity or card number, the remainder of a bank
account number, the range of an address, what stands before a number. An order number, a date, a version, an ISBN or a
time is not personal data, and a corpus full of "[PHONE]" in the place of order numbers has lost more than it guarded.

Most texts hold no candidate at all and cost one look for "@", one for runs of digits and a few for prefixes of keys.
Masking is repeated until nothing is found, for a number that is masked may uncover its neighbour; so that masking twice
is masking once.
"""

from __future__ import annotations

import datetime
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_NEAR_CHARS = 16
# What stands before a number that is no telephone, card or identity number.
_COUNTED = re.compile(
    r"(?:order|invoice|ticket|tracking|isbn|issn|doi|serial|sku|ref|reference|case|item|part|model|version|ver|build|id|"
    r"no|nr|number|qq|uid|pid|\u8ba2\u5355\u53f7?|\u8a02\u55ae\u865f?|\u5355\u53f7|\u55ae\u865f|\u7f16\u53f7|\u7de8\u865f|"
    r"\u6d41\u6c34\u53f7?|\u8d26\u53f7|\u5e33\u865f|\u5b66\u53f7|\u5de5\u53f7|\u7fa4\u53f7?|\u578b\u53f7|\u7248\u672c\u53f7?|"
    r"\u4e66\u53f7|\u6279\u53f7|\u8f66\u6b21|\u95e8\u724c)"
    r"\s*(?:number|num|no\.?|nr\.?|id|code)?\s*(?:is|\u662f|\u4e3a|\u70ba)?\s*[#:\uff1a.=]?\s*$",
    re.IGNORECASE,
)
_VERSIONED = re.compile(
    r"(?:version|ver\.?|\bv|release|build|firmware|chapter|section|figure|table|\u7248\u672c\u53f7?|\u7b2c|\u8282|\u7ae0)"
    r"\s*[:\uff1a]?\s*$",
    re.IGNORECASE,
)
_DIGIT_RUN = re.compile(r"[0-9][0-9 .()\-\u2013]{5,}[0-9]")
_DATE = re.compile(
    r"(?:1[0-9]|20)[0-9]{2}[ .\-\u2013]{1,3}[0-9]{1,2}[ .\-]{1,2}[0-9]{1,2}(?:[ .(]{1,3}[0-9]{1,2})?|"
    r"(?:(?:1[0-9]|20)[0-9]{2}[ .()\-\u2013]{1,3}){1,4}(?:1[0-9]|20)[0-9]{2}"
)
_LONG_TOKEN = re.compile(r"(?<![0-9A-Za-z+/_\-])[0-9A-Za-z+/_\-]{16}")
_KEY_SIGNS = (
    *("AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "npm_", "eyJ", "AIza"),
    *("-----BEGIN", "xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-", "sk-", "rk-", "sk_", "rk_"),
)
_SECRET_SIGNS = ("key", "secret", "token", "passw", "bearer", "\u5bc6\u94a5", "\u5bc6\u7801", "\u5bc6\u78bc")


@dataclass(frozen=True)
class _Finder:
    """One pattern of a kind of personal data, with the check of what it finds."""

    kind: str
    pattern: re.Pattern[str]
    check: Callable[[re.Match[str]], bool]


def mask(text: str, kinds: Sequence[str]) -> tuple[str, Counter[str]]:
    """Replaces personal data.

    Args:
        text: A text.
        kinds: Kinds that are replaced, of `components.score.names.PII_KINDS`.

    Returns:
        The text with placeholders, and how many of each kind there are.
    """
    counts: Counter[str] = Counter()
    chosen = _candidates(text, kinds)
    while chosen:
        before = counts.total()
        for finder in chosen:
            text = _mask_one(text, finder, counts)
        if counts.total() == before:
            break
    return text, counts


def _candidates(text: str, kinds: Sequence[str]) -> list[_Finder]:
    """The finders that could find something: for most texts none."""
    signs: set[str] = set()
    if "@" in text or "\uff20" in text:
        signs.add("email")
    if any(_is_suspicious(run[0]) for run in _DIGIT_RUN.finditer(text)):
        signs.update(("phone", "id", "ip", "card", "iban"))
    elif "::" in text or text.count(":") > 5:
        signs.add("ip")
    if any(sign in text for sign in _KEY_SIGNS) or _may_name_secret(text):
        signs.add("key")
    return [finder for finder in _FINDERS if finder.kind in signs and finder.kind in kinds] if signs else []


def _is_suspicious(run: str) -> bool:
    """Whether a run of digits could be anything but a date, a time or a range of years."""
    return sum(map(str.isdigit, run)) >= 5 and not _DATE.fullmatch(run)


def _may_name_secret(text: str) -> bool:
    lowered = text.lower()
    return any(sign in lowered for sign in _SECRET_SIGNS) and _LONG_TOKEN.search(text) is not None


def _mask_one(text: str, finder: _Finder, counts: Counter[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if not finder.check(match):
            return match[0]
        counts[finder.kind] += 1
        if "value" not in match.re.groupindex:
            return f"[{finder.kind.upper()}]"
        start, end = (place - match.start() for place in match.span("value"))
        return f"{match[0][:start]}[{finder.kind.upper()}]{match[0][end:]}"

    return finder.pattern.sub(replace, text)


def _before(match: re.Match[str]) -> str:
    return match.string[max(0, match.start() - _NEAR_CHARS) : match.start()]


def _digits(match: re.Match[str]) -> str:
    return "".join(char for char in match[0] if char.isdigit())


def _always(match: re.Match[str]) -> bool:
    return True


def _is_email(match: re.Match[str]) -> bool:
    local, host = re.split("[@\uff20]", match[0])
    return ".." not in host and not local.startswith(".") and not host.endswith((".png", ".jpg", ".gif", ".svg", ".js"))


def _is_phone(match: re.Match[str]) -> bool:
    digits = _digits(match)
    return 7 <= len(digits) <= 15 and len(set(digits)) > 2 and not _COUNTED.search(_before(match))


_MOBILE_NEXT = {
    "13": "0123456789",
    "14": "56789",
    "15": "012356789",
    "16": "2567",
    "17": "01235678",
    "18": "0123456789",
    "19": "0123456789",
}
"""The third digit of Chinese mobile numbers that have been given out, by the two before."""


def _is_mobile(match: re.Match[str]) -> bool:
    number = _digits(match)[-11:]
    return number[2] in _MOBILE_NEXT[number[:2]] and _is_phone(match)


def _is_international(match: re.Match[str]) -> bool:
    return len(_digits(match)) >= 9 and _is_phone(match)


_PROVINCES = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _is_chinese_id(match: re.Match[str]) -> bool:
    """GB 11643: region, date of birth, serial number and a check digit (ISO 7064, mod 11-2)."""
    number = match[0].upper()
    if not _PROVINCES.match(number):
        return False
    try:
        datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number, _ID_WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == number[17]


def _is_ipv4(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:
        return False
    return address.is_global and max(address.packed) > 9 and not _VERSIONED.search(_before(match))


def _is_ipv6(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return False
    return address.is_global and address.packed[0] >> 5 == 1  # 2000::/3 is all that has been given out


def _is_card(match: re.Match[str]) -> bool:
    digits = _digits(match)
    if len(set(re.sub("[0-9]", "", match[0]))) > 1 or len(set(digits)) < 2 or _COUNTED.search(_before(match)):
        return False
    return _issued(digits) and _luhn(digits)


def _issued(digits: str) -> bool:
    """Whether an issuer numbers its cards so (ISO/IEC 7812): first digits and length."""
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return size in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return size == 16
    if two in (34, 37):
        return size == 15
    if two in (30, 36, 38, 39):
        return size == 14
    return (two in (62, 65) or four == 6011 or 3528 <= four <= 3589) and 16 <= size <= 19


def _luhn(digits: str) -> bool:
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


_IBAN_CHARS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def _is_iban(match: re.Match[str]) -> bool:
    """ISO 13616: the length of the country, and remainder 1 of 97."""
    number = match["value"].replace(" ", "")
    if _IBAN_CHARS.get(number[:2]) != len(number):
        return False
    return int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1


def _is_secret(match: re.Match[str]) -> bool:
    """A value that looks drawn by lot: letters and digits, and hardly any of them twice (Shannon's entropy)."""
    value = match["value"]
    counts = Counter(value)
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    return entropy >= 3.2 and any(map(str.isdigit, value)) and any(map(str.isalpha, value))


_SECRET_NAME = re.compile(
    r"(?:api|access|secret|auth|private)[ _-]?key|secret|token|passw(?:or)?d|bearer"
    r"|\u5bc6\u94a5|\u5bc6\u7801|\u5bc6\u78bc",
    re.IGNORECASE,
)
_A = "0-9A-Za-z"
_NOT_AFTER = rf"(?<![{_A}._\-+])(?<![^\]]/)"  # in a path or a longer number; behind "/" only beside a masked neighbour
_NOT_BEFORE = rf"(?![{_A}_]|[.\-][0-9])"
_HOST = rf"(?:[{_A}](?:[{_A}\-]{{0,61}}[{_A}])?\.){{1,5}}[A-Za-z]{{2,24}}"
_KEYS: tuple[tuple[str, Callable[[re.Match[str]], bool]], ...] = (
    (
        r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----[\s\S]{0,20000}?-----END (?:[A-Z]+ ){0,3}PRIVATE KEY-----",
        _always,
    ),
    (rf"(?<![{_A}])(?:AKIA|ASIA)[0-9A-Z]{{16}}(?![{_A}])", _always),
    (rf"(?<![{_A}_])(?:gh[pousr]_[{_A}]{{36,251}}|github_pat_[{_A}_]{{22,251}})(?![{_A}_])", _always),
    (rf"(?<![{_A}_])(?:glpat-[{_A}_\-]{{20,60}}|hf_[A-Za-z]{{34}}|npm_[{_A}]{{36}})(?![{_A}_\-])", _always),
    (rf"(?<![{_A}_\-])eyJ[{_A}_\-]{{8,4000}}\.eyJ[{_A}_\-]{{8,8000}}\.[{_A}_\-]{{10,2000}}", _always),
    (rf"(?<![{_A}_\-])(?:xox[abeprs]-[{_A}\-]{{10,200}}|AIza[{_A}_\-]{{35}})(?![{_A}_\-])", _always),
    (
        rf"(?<![{_A}_\-])(?P<value>(?:sk|rk)[_-](?:[a-z]{{2,8}}[_-]){{0,2}}[{_A}_\-]{{20,200}})(?![{_A}_\-])",
        _is_secret,
    ),
    (
        rf"(?i:{_SECRET_NAME.pattern})[\"']?\s{{0,3}}(?:[:=\uff1a]|=>|\s)\s{{0,3}}[\"']?"
        rf"(?P<value>[{_A}+/_\-]{{16,200}}={{0,2}})(?![{_A}+/_\-=])",
        _is_secret,
    ),
)
_IPS = (
    (rf"(?<![{_A}._\-])(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}}{_NOT_BEFORE}", _is_ipv4),
    (rf"(?<![{_A}:.])(?:[0-9A-Fa-f]{{1,4}}:){{2,7}}(?::?[0-9A-Fa-f]{{1,4}}){{1,6}}(?![{_A}:])", _is_ipv6),
    (rf"(?<![{_A}:.])[23][0-9A-Fa-f]{{3}}::(?:[0-9A-Fa-f]{{1,4}}:){{0,5}}[0-9A-Fa-f]{{1,4}}(?![{_A}:])", _is_ipv6),
)
_PHONES = (
    (
        rf"(?<![{_A}+])\+[1-9][0-9]{{0,2}}[ .\-]?(?:\([0-9]{{1,4}}\)[ .\-]?)?[0-9]{{1,5}}(?:[ .\-]?[0-9]{{2,5}}){{1,5}}"
        rf"{_NOT_BEFORE}",
        _is_international,
    ),
    # Chinese mobile, landline with its area code, and service numbers.
    (
        rf"{_NOT_AFTER}(?:(?:\+|00)?86[ \-]?)?1[3-9][0-9](?:[0-9]{{8}}|[ \-][0-9]{{4}}[ \-][0-9]{{4}}){_NOT_BEFORE}",
        _is_mobile,
    ),
    (
        rf"{_NOT_AFTER}(?:\(0[1-9][0-9]{{1,2}}\) ?|\uff080[1-9][0-9]{{1,2}}\uff09|0[1-9][0-9]{{1,2}}[\- \u2013\u2014])"
        rf"[2-8][0-9]{{6,7}}(?:[\-\u8f6c][0-9]{{1,5}})?{_NOT_BEFORE}",
        _is_phone,
    ),
    (rf"{_NOT_AFTER}[48]00[\- ][0-9]{{3}}[\- ]?[0-9]{{4}}{_NOT_BEFORE}", _is_phone),
    # North American, written with marks between; three groups with spaces are too often something else.
    (
        rf"{_NOT_AFTER}(?:1[ .\-])?(?:\([2-9][0-9]{{2}}\) ?[2-9][0-9]{{2}}[ .\-][0-9]{{4}}"
        rf"|[2-9][0-9]{{2}}(?P<gap>[.\-])[2-9][0-9]{{2}}(?P=gap)[0-9]{{4}}){_NOT_BEFORE}",
        _is_phone,
    ),
)
_OTHERS = {
    "email": (rf"(?<![{_A}._%+\-])[{_A}._%+\-]{{1,64}}[@\uff20]{_HOST}(?![{_A}])", _is_email),
    "iban": (
        rf"(?<![{_A}])(?P<value>[A-Z]{{2}}[0-9]{{2}}(?: ?[0-9A-Z]{{4}}){{2,7}}(?: ?[0-9A-Z]{{1,3}})?)(?![{_A}])",
        _is_iban,
    ),
    "id": (
        rf"(?<![{_A}])[1-9][0-9]{{5}}(?:18|19|20)[0-9]{{2}}[01][0-9][0-3][0-9]{{4}}[0-9Xx](?![{_A}])",
        _is_chinese_id,
    ),
    "card": (
        rf"(?<![{_A}.\-])[2-6][0-9]{{3}}[ \-]?[0-9]{{4,6}}[ \-]?[0-9]{{4,5}}(?:[ \-]?[0-9]{{1,4}}){{0,2}}{_NOT_BEFORE}",
        _is_card,
    ),
}
_FINDERS = (
    *(_Finder("key", re.compile(pattern), check) for pattern, check in _KEYS),
    *(_Finder(kind, re.compile(pattern), check) for kind, (pattern, check) in _OTHERS.items()),
    *(_Finder("ip", re.compile(pattern), check) for pattern, check in _IPS),
    *(_Finder("phone", re.compile(pattern), check) for pattern, check in _PHONES),
)
