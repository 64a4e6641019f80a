"""One row to one document, or to the rule that refused it.

The rules in the order they are tried: `malformed` (no row at all, or a text that is none), `row_bytes` (too long),
`no_text`, `encoding` (too much of it undecodable). Every document keeps what its row says of language, date, licence
and opt-out; what it does not say is found (language and script) or stays empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime

from components.crawl.urls import normalise
from components.documents import Document, Dropped, make_doc_id
from components.extract.language import detect_language_and_script
from components.extract.script import count_kinds, count_scripts, detect_script
from components.ingest.config import FIELDS, IngestFilesConfig
from components.ingest.rows import Row

_REPLACEMENT = "\ufffd"
_SURROGATE = re.compile("[\ud800-\udfff]")
_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?!\d)")
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_][a-z0-9_-]+)?", re.IGNORECASE)
_LONG_CODES = {"eng": "en", "zho": "zh", "chi": "zh", "cmn": "zh", "deu": "de", "fra": "fr", "jpn": "ja", "spa": "es"}
_MAX_KEY_CHARS = 2_000


class Mapper:
    """Makes documents out of rows, as a config says.

    Args:
        config: The step's settings.

    Attributes:
        columns: Top-level fields of a row that are looked at.
        names_without_text: Fields seen in rows that had no text, for telling the user.
    """

    def __init__(self, config: IngestFilesConfig) -> None:
        self._config = config
        self._paths = {name: tuple(path.split(".")) for name, path in (FIELDS | config.fields).items() if path}
        self._dotted = FIELDS | config.fields
        self.columns = frozenset(name for path in self._paths.values() for name in path[:1])
        self.columns |= frozenset(path for path in self._dotted.values() if path)
        self.names_without_text: set[str] = set()

    def document(self, row: Row, file: str) -> Document | Dropped:
        """The document of a row of a file, or the ledger row that says why there is none."""
        place = f"{file}#{row.number}"
        if row.fault is not None:
            doc_id = make_doc_id(self._config.source, place, row.raw)
            return Dropped(doc_id, place, row.fault.rule, row.fault.value, row.fault.threshold)
        source = self._text_of(row, "source") or self._config.source
        url = self._key(row) or place
        raw = self._value(row, "text")
        if isinstance(raw, bytes):
            raw = raw.decode("utf-8", "replace")
        text = _clean(raw).strip() if isinstance(raw, str) else ""
        doc_id = make_doc_id(source, url, text.encode())
        if raw is not None and not isinstance(raw, str):
            return Dropped(make_doc_id(source, place, b""), place, "malformed", f"text is {type(raw).__name__}", "text")
        if not text:
            self.names_without_text.update(map(str, row.values))
            return Dropped(make_doc_id(source, place, b""), place, "no_text", "0", "1")
        faults = text.count(_REPLACEMENT) / len(text)
        if faults > self._config.max_replaced_share:
            return Dropped(doc_id, url, "encoding", f"{faults:.4f}", str(self._config.max_replaced_share))
        lang, script = _language(text, language_code(self._text_of(row, "lang")) or self._config.lang)
        return Document(
            doc_id=doc_id,
            source=source,
            url=url,
            lang=lang,
            title=self._text_of(row, "title"),
            text=text,
            script=script,
            date=day(self._value(row, "date")),
            licence=self._text_of(row, "licence") or self._config.licence,
            opt_out=self._opt_out(row),
        )

    def _key(self, row: Row) -> str:
        """URL of a row in its one spelling, or its id; empty if it has neither."""
        url = self._text_of(row, "url")
        return (normalise(url) or url or self._text_of(row, "id"))[:_MAX_KEY_CHARS]

    def _opt_out(self, row: Row) -> str:
        value = self._value(row, "opt_out")
        return self._text_of(row, "opt_out") if isinstance(value, str) else "source" if value else ""

    def _text_of(self, row: Row, name: str) -> str:
        value = self._value(row, name)
        if isinstance(value, bool) or value is None:
            return ""
        return _clean(str(value)).strip() if isinstance(value, str | int | float) else ""

    def _value(self, row: Row, name: str) -> object:
        """What a row has for a document's field; a field whose very name has dots goes before nested ones."""
        dotted = self._dotted[name]
        if dotted in row.values:
            return row.values[dotted]
        value: object = row.values
        for part in self._paths.get(name, ("",)):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def _language(text: str, stated: str) -> tuple[str, str]:
    """Language and script of a text; the model, which takes most of the time, is asked only where nothing is stated."""
    if not stated:
        return detect_language_and_script(text)
    kinds = count_kinds(text)
    return stated, detect_script(kinds, count_scripts(kinds))


def _clean(text: str) -> str:
    """A text that can be encoded: half a surrogate pair is no character."""
    return _SURROGATE.sub(_REPLACEMENT, text)


def language_code(stated: str) -> str:
    """The ISO 639 code in what a row says ("zh-CN", "eng", "EN_us"); empty if that is no code."""
    match = _LANGUAGE.fullmatch(stated)
    code = match.group(1).lower() if match else ""
    return _LONG_CODES.get(code, code)


def day(value: object) -> str:
    """The day in a date, a time or a text that begins with one, as "YYYY-MM-DD"; empty if there is none."""
    if isinstance(value, datetime | date):
        return value.strftime("%Y-%m-%d") if value.year >= 1000 else ""
    match = _DAY.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return ""
    try:
        return date(*map(int, match.groups())).isoformat()
    except ValueError:
        return ""
