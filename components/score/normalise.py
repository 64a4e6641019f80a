"""The light normalisation every kept text gets: same meaning, one spelling.

Unicode NFC, line ends as newlines, no control or zero-width characters, one space between words, no spaces at the ends
of lines, at most one empty line in a row. Indentation by spaces stays, since code has it. Width, case, quotes and
traditional characters are the author's and stay as they are.
"""

from __future__ import annotations

import re
import unicodedata

# Control characters, soft hyphen, zero-width space, direction marks, byte order mark and line-drawing leftovers; the
# zero-width joiners stay, since emoji and Indic scripts need them.
_REMOVED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufff9-\ufffb]"
)
_LINE_ENDS = re.compile("\r\n?|\u0085|\u2028|\u2029")
_SPACES = " \t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_UNEVEN = re.compile(f"[{_SPACES}]{{2,}}|[{_SPACES[1:]}]")
_EMPTY_LINES = re.compile("\n{3,}")


_ODD = re.compile(f"{_REMOVED.pattern[:-1]}\r\u0085\u2028\u2029{_SPACES[1:]}]")


def normalise(text: str) -> str:
    """Normalises a text; twice is the same as once."""
    if _is_normal(text):
        return text
    text = _REMOVED.sub("", _LINE_ENDS.sub("\n", text))
    lines = "\n".join(_normalise_line(line) for line in unicodedata.normalize("NFC", text).split("\n"))
    return _EMPTY_LINES.sub("\n\n", lines).strip("\n")


def _is_normal(text: str) -> bool:
    """Whether there is nothing to do, as for most texts that a machine wrote out; answered at a tenth of the cost."""
    if text.strip(_SPACES + "\n") != text or "  " in text or " \n" in text or "\n " in text or "\n\n\n" in text:
        return False
    return not _ODD.search(text) and unicodedata.is_normalized("NFC", text)


def without_faults(text: str) -> str:
    """A normalised text without its replacement characters, which only say that something was lost."""
    return normalise(text.replace("\ufffd", "")) if "\ufffd" in text else text


def _normalise_line(line: str) -> str:
    """Plain spaces at the beginning indent code and stay; tabs and full-width spaces there open a paragraph and go."""
    words = line.strip(_SPACES)
    before = line[: line.find(words[0])] if words else ""
    return ("" if before.strip(" ") else before) + _UNEVEN.sub(" ", words)
