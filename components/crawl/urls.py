"""URLs in one spelling, so that a page is fetched once however it is linked.

Follows RFC 3986 section 6 and, where browsers are more lenient than the RFC, the WHATWG URL standard: scheme and host
in lower case, international names as IDNA, default ports and fragments dropped, percent-escapes in upper case and only
where needed, dot segments resolved, back slashes taken as slashes. Beyond both, parameters that only track the visitor
or carry a session are dropped. The order of the other parameters is kept: it may mean something.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit

MAX_URL_CHARS = 10_000
_CACHED_CHARS = 500  # Longer ones are rare on honest sites, and on others would fill memory.
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_STRAY = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")
_ORDINARY = re.compile(
    r"(?P<whole>https?://[A-Za-z0-9][^\s\\]*)|(?P<rooted>/(?:[^\s\\/][^\s\\]*)?)|(?P<beside>[A-Za-z0-9%_.~-][^\s\\:]*)"
)
_SESSION = re.compile(r";jsessionid=[^/;]*", re.IGNORECASE)
_SPACE = "".join(map(chr, range(0x21)))
_TRACKING_NAMES = (
    "gclid gclsrc dclid gbraid wbraid fbclid msclkid yclid twclid igshid mc_cid mc_eid mkt_tok _ga _gl spm "
    "vero_id wickedid oly_anon_id oly_enc_id phpsessid jsessionid aspsessionid"
)
_OTHER_ENDINGS = (
    "7z apk avi bmp bz2 css csv deb dmg doc docx epub exe flv gif gz ico iso jar jpeg jpg js json m4a m4v mkv mov mp3 "
    "mp4 mpeg mpg odt ogg otf pdf png ppt pptx rar rpm svg swf tar tgz tif tiff ttf wav webm webp wmv woff woff2 xls "
    "xlsx xz zip"
)
_TRACKING = frozenset(_TRACKING_NAMES.split())
_NOT_PAGES = frozenset(_OTHER_ENDINGS.split())


def normalise(url: str) -> str | None:
    """The one spelling of an absolute http or https URL; None for anything that is none.

    URLs that carry a user name or password are none either: nobody meant to publish them. Nor are those of more than
    `MAX_URL_CHARS` characters, which no server takes.
    """
    if len(url) <= _CACHED_CHARS:
        return _normalise(url)
    return _normalise.__wrapped__(url) if len(url) <= MAX_URL_CHARS else None


@lru_cache(maxsize=4096)
def _normalise(url: str) -> str | None:
    try:
        parts = urlsplit(_slashed(url))
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc or port == 0:
        return None
    host = _host(parts.hostname or "")
    if host is None:
        return None
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    query = _query(parts.query)
    return f"{parts.scheme}://{host}{_path(parts.path)}{'?' + query if query else ''}"


def join(base: str, reference: str) -> str | None:
    """What a link on a page means.

    Args:
        base: Absolute URL of the page (or of its `<base>`).
        reference: The `href`, any text at all.

    Returns:
        A normalised URL; None if the link does not lead to an http or https URL.
    """
    if len(base) > MAX_URL_CHARS or len(reference) > MAX_URL_CHARS:
        return None
    reference = reference.strip(_SPACE)
    found = _ORDINARY.fullmatch(reference)
    if found:  # The pages of a site repeat their links: what the base adds to them is the same for all in a folder.
        place = base.partition("#")[0].partition("?")[0]
        if found.lastgroup == "whole":
            base = ""
        elif place.count("/") >= 3:
            base = f"{'/'.join(place.split('/', 3)[:3]) if found.lastgroup == 'rooted' else place.rpartition('/')[0]}/"
    return _join(base, reference) if len(base) + len(reference) <= _CACHED_CHARS else _join.__wrapped__(base, reference)


@lru_cache(maxsize=4096)
def _join(base: str, reference: str) -> str | None:
    try:
        return normalise(urljoin(base, _slashed(reference)))
    except ValueError:
        return None


def join_all(base: str, references: Iterable[str]) -> list[str]:
    """What the links of a page mean, each once, in order: `join` for a whole page, with a normalised base.

    The pages of a folder mostly have the same links, so what they mean there is kept.
    """
    folder = base.partition("#")[0].partition("?")[0].rpartition("/")[0] + "/"
    targets: dict[str, None] = {}
    for reference in references:
        target = _join_below(folder, reference) if len(folder) + len(reference) <= _CACHED_CHARS else ""
        if target == "":
            target = join(base, reference)
        if target is not None:
            targets[target] = None
    return list(targets)


@lru_cache(maxsize=16_384)
def _join_below(folder: str, reference: str) -> str | None:
    """As `join`, for references that mean the same on every page of a folder; an empty text for others."""
    return join(folder, reference) if _ORDINARY.fullmatch(reference) else ""


def host_of(url: str) -> str:
    """Host, with the port unless it is the default one, of a normalised URL."""
    return url.split("/", 3)[2]


def robots_url(url: str) -> str:
    """Where the robots.txt that rules over a normalised URL lies."""
    return "/".join(url.split("/", 3)[:3]) + "/robots.txt"


def looks_like_page(url: str) -> bool:
    """Whether the ending of a normalised URL's path leaves it possible that it is an HTML page."""
    name = url.partition("?")[0].split("/", 3)[3].rpartition("/")[2]
    return "." not in name or name.rpartition(".")[2].lower() not in _NOT_PAGES


def _slashed(url: str) -> str:
    """Trims white space and turns back slashes before the query into slashes, as browsers do."""
    text = url.strip(_SPACE)
    end = min((found for found in (text.find("?"), text.find("#")) if found >= 0), default=len(text))
    return text[:end].replace("\\", "/") + text[end:]


def _host(name: str) -> str | None:
    if ":" in name:
        try:
            return f"[{ipaddress.IPv6Address(name)}]" if "%" not in name else None
        except ValueError:
            return None
    text = name.lower()
    if not text.isascii():
        import idna

        try:
            text = idna.encode(text, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            return None
    text = text.removesuffix(".")
    return text if _HOST.fullmatch(text) else None


def _path(path: str) -> str:
    kept: list[str] = []
    segments = _SESSION.sub("", _escaped(path).replace("?", "%3F")).split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _query(query: str) -> str:
    pieces = _escaped(query).split("&")
    return "&".join(piece for piece in pieces if piece and not _tracks(piece.partition("=")[0].lower()))


def _tracks(name: str) -> bool:
    return name in _TRACKING or name.startswith("utm_")


def _escaped(text: str) -> str:
    return _STRAY.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    found = match.group()
    if len(found) == 3:
        character = chr(int(found[1:], 16))
        return character if character in _UNRESERVED else found.upper()
    return quote(found, safe="", errors="replace")
