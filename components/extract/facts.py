"""What a page says about itself outside its text: title, date, licence, and whether models may learn from it.

Four places are read: `<meta>` and `<link>`, JSON-LD, a few elements of the body (`<time>`, links to licences), and the
HTTP headers. Facts are taken as stated and never guessed; where two places disagree the order here decides.

A licence counts only if it is the page's: `rel=license`, metadata, or a link to Creative Commons in a sentence that
speaks of the page. A photograph's credit line is not the page's licence. An opt-out counts wherever it stands: a page
that asks one way not to be trained on has asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from selectolax.lexbor import LexborHTMLParser, LexborNode

from components.extract.dates import parse_date

_PUBLISHED_TEXT = """
    article:published_time og:published_time og:article:published_time article:create_at bytedance:published_time
    og:release_date datepublished date.issued dc.date.issued dcterms.issued dc.date dcterms.date dcterms.created
    dc.date.created pubdate publishdate publish_date publish-date publication_date publicationdate published_date
    date_published citation_publication_date citation_date citation_online_date sailthru.date parsely-pub-date
    date cxenseparse:recs:publishtime datecreated created originalpublicationdate shareaholic:article_published_time
"""
_MODIFIED_TEXT = """
    article:modified_time og:updated_time datemodified dcterms.modified dc.date.modified last-modified lastmod
    modified revised updated_time bytedance:updated_time shareaholic:article_modified_time
"""
_RIGHTS_TEXT = "license licence dc.rights dcterms.license dcterms.rights rights og:license cc:license"
_MEANINGS = (
    dict.fromkeys(_PUBLISHED_TEXT.split(), "published")
    | dict.fromkeys(_MODIFIED_TEXT.split(), "modified")
    | dict.fromkeys(_RIGHTS_TEXT.split(), "rights")
    | dict.fromkeys(("og:title", "twitter:title"), "title")
    | {"tdm-reservation": "reservation"}
)
_READ = (
    "base[href], meta, link[rel*=license], time, script[type='application/ld+json'], a[rel*=license],"
    "a[href*='creativecommons.org/']"
)
# Where words of a licence are looked for: the end of the page, because the whole of it takes as long as half a parse.
_FOOT_CHARS = 20_000
_LD_PUBLISHED = re.compile(r'"(?:datePublished|dateCreated|uploadDate)"\s*:\s*"([^"]{4,60})"')
_LD_MODIFIED = re.compile(r'"dateModified"\s*:\s*"([^"]{4,60})"')
_MAX_JSON_CHARS = 200_000
_MEDIA_TYPES = frozenset(("ImageObject", "VideoObject", "AudioObject", "Photograph", "MediaObject"))

_CC_URL = re.compile(
    r"creativecommons\.org/(?:licenses/(?P<kind>by(?:-nc)?(?:-nd|-sa)?)/(?P<version>\d\.\d)(?:/(?P<port>[a-z]{2,3})\b)?"
    r"|publicdomain/(?P<domain>zero|mark)/1\.0)",
    re.IGNORECASE,
)
_CC_NAME = re.compile(
    r"CC(?:[ -](?P<kind>BY(?:[ -]NC)?(?:[ -](?:ND|SA))?)[ -](?P<version>\d\.\d)|(?P<zero>0))(?![\w.])"
)
_SPEAKS_OF_PAGE = re.compile(
    r"licen[sc]|lizenz|licencia|licença|available under|except where|otherwise noted"
    r"|许可|許可|协议|協議|授权|授權|条款|條款|釋出",
    re.IGNORECASE,
)
_SPEAKS_OF_PICTURE = re.compile(
    r"\b(?:photo|image|picture|foto|bild|illustration|video|music|icon)|图片|圖片|摄影|攝影|照片|图源|视频|音乐",
    re.IGNORECASE,
)
_NEAR = 120
_EDGE = re.compile(r"[<>\n]")
# Ported licences that SPDX has names for.
_PORTS_TEXT = """
    BY-2.5-AU BY-3.0-AT BY-3.0-AU BY-3.0-DE BY-3.0-IGO BY-3.0-NL BY-3.0-US BY-NC-3.0-DE BY-NC-ND-3.0-DE
    BY-NC-ND-3.0-IGO BY-NC-SA-2.0-DE BY-NC-SA-2.0-FR BY-NC-SA-2.0-UK BY-NC-SA-3.0-DE BY-NC-SA-3.0-IGO BY-ND-3.0-DE
    BY-SA-2.0-UK BY-SA-2.1-JP BY-SA-3.0-AT BY-SA-3.0-DE BY-SA-3.0-IGO
"""
_PORTS = frozenset(_PORTS_TEXT.split())

_NO_AI = re.compile(r"\b(noai|noimageai)\b", re.IGNORECASE)
_NO_TRAINING = re.compile(r"\b(?:train-ai|ai-train|train-genai)\s*=\s*(?:n|no|\?0)\b", re.IGNORECASE)
_ROBOTS = re.compile(r"(?:.*bot|robots|.*-extended|anthropic-ai)", re.IGNORECASE)


@dataclass
class Facts:
    """What a page states; each field is empty if it states nothing.

    Attributes:
        title: Text of its `title` element.
        shared_title: The title it gives to those who share it (Open Graph, Twitter).
        published: Date of publication, "YYYY-MM-DD", from metadata.
        shown: Date in the first `time` element.
        modified: Date of the last change, from metadata.
        licence: SPDX id, or URL, or the words of the page.
        opt_outs: What asks that no model learns from it, such as "robots noai".
        base: `href` of its `base` element.
    """

    title: str = ""
    shared_title: str = ""
    published: str = ""
    shown: str = ""
    modified: str = ""
    licence: str = ""
    opt_outs: set[str] = field(default_factory=set)
    base: str = ""


def read_facts(tree: LexborHTMLParser, html: str, headers: Mapping[str, str]) -> Facts:
    """Reads what a page says about itself.

    Args:
        tree: The parsed page.
        html: What it was parsed from.
        headers: Response headers, names in lower case.
    """
    facts = Facts()
    element = tree.css_first("title")
    facts.title = " ".join((element.text() if element is not None else "").split())
    for node in tree.css(_READ):
        _READERS[node.tag or ""](facts, node)
    if not facts.licence:
        facts.licence = _licence_in_words(html[-_FOOT_CHARS:])
    _read_headers(facts, headers)
    return facts


def spdx_of(reference: str) -> str:
    """The SPDX id of a Creative Commons URL or name; a URL of any other kind as it is, else empty."""
    found = _CC_URL.search(reference)
    if found:
        if found["domain"]:
            return "CC0-1.0" if found["domain"].lower() == "zero" else "CC-PDM-1.0"
        name = f"{found['kind']}-{found['version']}".upper() + (f"-{found['port']}".upper() if found["port"] else "")
        return f"CC-{name}" if not found["port"] or name in _PORTS else f"https://{found.group().lower()}/"
    named = _CC_NAME.search(reference)
    if named:
        return "CC0-1.0" if named["zero"] else f"CC-{named['kind'].replace(' ', '-')}-{named['version']}".upper()
    reference = reference.strip()
    return reference if re.fullmatch(r"https?://\S{4,300}", reference) else ""


def _read_meta(facts: Facts, node: LexborNode) -> None:
    attributes = node.attributes
    name = (
        attributes.get("property")
        or attributes.get("name")
        or attributes.get("itemprop")
        or attributes.get("http-equiv")
    )
    content = attributes.get("content")
    meaning = _meaning(name) if name and content else ""
    if not meaning or not content:
        return
    if meaning == "title":
        facts.shared_title = facts.shared_title or " ".join(content.split())
    elif meaning == "published":
        facts.published = facts.published or parse_date(content)
    elif meaning == "modified":
        facts.modified = facts.modified or parse_date(content)
    elif meaning == "rights":
        facts.licence = facts.licence or spdx_of(content)
    elif meaning == "robots":
        facts.opt_outs.update(f"robots {word.lower()}" for word in _NO_AI.findall(content))
    elif content.strip() == "1":
        facts.opt_outs.add("tdm-reservation")


@lru_cache(maxsize=4096)
def _meaning(name: str) -> str:
    """What the `meta` elements of a name tell, empty if nothing to us; pages share their names."""
    name = name.lower()
    return _MEANINGS.get(name, "robots" if _ROBOTS.fullmatch(name) else "")


def _read_base(facts: Facts, node: LexborNode) -> None:
    facts.base = facts.base or node.attributes.get("href") or ""


def _read_link(facts: Facts, node: LexborNode) -> None:
    attributes = node.attributes
    if "license" in (attributes.get("rel") or "").lower().split():
        facts.licence = facts.licence or spdx_of(attributes.get("href") or "")


def _read_anchor(facts: Facts, node: LexborNode) -> None:
    attributes = node.attributes
    reference = attributes.get("href") or ""
    stated = "license" in (attributes.get("rel") or "").lower()
    if facts.licence or not (stated or _CC_URL.search(reference)):
        return
    around = node.parent.text(separator=" ") if node.parent is not None else ""
    if len(around) < 2 * _NEAR and _SPEAKS_OF_PICTURE.search(around):
        return
    if stated or _SPEAKS_OF_PAGE.search(around):
        facts.licence = spdx_of(reference)


def _read_time(facts: Facts, node: LexborNode) -> None:
    if facts.shown:
        return
    attributes = node.attributes
    found = parse_date(attributes.get("datetime") or node.text() or "")
    if "datepublished" in (attributes.get("itemprop") or "").lower() or "pubdate" in attributes:
        facts.published = facts.published or found
    facts.shown = found


def _read_script(facts: Facts, node: LexborNode) -> None:
    text = node.text()
    for name, pattern in (("published", _LD_PUBLISHED), ("modified", _LD_MODIFIED)):
        found = pattern.search(text) if not getattr(facts, name) else None
        if found:
            setattr(facts, name, parse_date(found.group(1)))
    if not facts.licence and '"license"' in text and len(text) <= _MAX_JSON_CHARS:
        try:
            stated = next(_licences(json.loads(text)), "")
        except (ValueError, RecursionError):
            return
        facts.licence = spdx_of(stated)


_READERS = {
    "base": _read_base,
    "meta": _read_meta,
    "link": _read_link,
    "a": _read_anchor,
    "time": _read_time,
    "script": _read_script,
}


def _licences(value: object) -> Iterator[str]:
    """Licences in JSON-LD, but those of pictures and other media."""
    if isinstance(value, list):
        for item in value:
            yield from _licences(item)
    elif isinstance(value, dict):
        kind = value.get("@type")
        if _MEDIA_TYPES.intersection(kind if isinstance(kind, list) else [str(kind)]):
            return
        stated = value.get("license")
        if isinstance(stated, dict):
            stated = stated.get("@id") or stated.get("url")
        if isinstance(stated, str):
            yield stated
        for item in value.values():
            yield from _licences(item)


def _licence_in_words(html: str) -> str:
    """A licence that a sentence of the page names ("本文采用 CC BY 4.0 许可协议"), unless it speaks of a picture."""
    for match in _CC_NAME.finditer(html):
        before, after = html[max(0, match.start() - _NEAR) : match.start()], html[match.end() : match.end() + _NEAR]
        line = _EDGE.split(before)[-1] + match.group() + _EDGE.split(after)[0]
        if _SPEAKS_OF_PAGE.search(line) and not _SPEAKS_OF_PICTURE.search(line):
            return spdx_of(line)
    return ""


def _read_headers(facts: Facts, headers: Mapping[str, str]) -> None:
    facts.opt_outs.update(f"robots {word.lower()}" for word in _NO_AI.findall(headers.get("x-robots-tag", "")))
    if headers.get("tdm-reservation", "").strip() == "1":
        facts.opt_outs.add("tdm-reservation")
    for name in ("content-usage", "content-signal"):
        if _NO_TRAINING.search(headers.get(name, "")):
            facts.opt_outs.add(f"{name} no training")
    link = headers.get("link", "")
    if not facts.licence and "license" in link:
        stated = re.search(r"<([^<>]{4,300})>\s*;[^,]*rel=\"?license\b", link)
        facts.licence = spdx_of(stated.group(1)) if stated else ""
