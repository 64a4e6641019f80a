"""Content encodings of HTTP bodies, undone within a limit: a few kilobytes can inflate to gigabytes."""

from __future__ import annotations

import zlib

ACCEPTED = "gzip, deflate"
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_MAX_STAGES = 3
_FREE_BYTES = 1 << 20


class BadEncoding(ValueError):  # noqa: N818  (says what the body is)
    """The body is not what its Content-Encoding header says, or says it in a way nobody offered."""


class TooLarge(ValueError):  # noqa: N818  (says what the body is)
    """The body inflates beyond the limit."""


def inflate(wire: bytes, encodings: str, limit: int, max_ratio: float = 0.0) -> bytes:
    """Undoes content encodings, last applied first.

    Args:
        wire: Body as transferred.
        encodings: Value of the Content-Encoding header; empty for none.
        limit: Most bytes any stage may give.
        max_ratio: Most bytes that any stage may make of one byte of `wire`, above a mebibyte; 0 for no such limit.

    Raises:
        BadEncoding: If an encoding is unknown, there are too many, or the body is damaged.
        TooLarge: If a stage gives more than that.
    """
    if max_ratio:
        limit = min(limit, max(_FREE_BYTES, int(max_ratio * len(wire))))
    names = [name for part in encodings.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if len(names) > _MAX_STAGES or not set(names) <= _WINDOW_BITS.keys():
        raise BadEncoding(f"content encoding {encodings[:100]!r} was not offered")
    body = wire
    for name in reversed(names):
        body = _inflate_once(body, name, limit)
    return body


def _inflate_once(body: bytes, name: str, limit: int) -> bytes:
    bits = _WINDOW_BITS[name]
    if name == "deflate" and body[:1] and body[0] & 0x0F != 8:
        bits = -15  # Some servers send raw deflate under this name.
    try:
        plain = zlib.decompressobj(wbits=bits).decompress(body, limit + 1)
    except zlib.error as error:
        raise BadEncoding(f"damaged {name} body: {error}") from error
    if len(plain) > limit:
        raise TooLarge(f"inflates to more than {limit} bytes")
    return plain
