"""Content encodings and their limit."""

import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.encodings import BadEncoding, TooLarge, inflate


@given(st.binary(max_size=500))
def test_every_encoding_is_undone(body: bytes):
    raw = zlib.compressobj(wbits=-15)
    assert inflate(body, "", 500) == body
    assert inflate(gzip.compress(body), "GZIP", 500) == body
    assert inflate(zlib.compress(body), "deflate", 500) == body
    assert inflate(raw.compress(body) + raw.flush(), "deflate", 500) == body
    assert inflate(gzip.compress(zlib.compress(body)), "deflate, gzip", 1000) == body


def test_a_bomb_is_refused_at_the_limit():
    bomb = gzip.compress(bytes(10_000))
    assert len(inflate(bomb, "gzip", 10_000)) == 10_000
    with pytest.raises(TooLarge, match="9999"):
        inflate(bomb, "gzip", 9_999)


@pytest.mark.parametrize("encodings", ["br", "gzip, gzip, gzip, gzip", "gzip, zstd"])
def test_what_was_not_offered_is_refused(encodings: str):
    with pytest.raises(BadEncoding, match="not offered"):
        inflate(b"x", encodings, 100)


@given(st.binary(min_size=1, max_size=100), st.sampled_from(["gzip", "deflate", "gzip, deflate"]))
def test_any_bytes_are_inflated_or_refused(body: bytes, encodings: str):
    with contextlib.suppress(BadEncoding):
        assert len(inflate(body, encodings, 10**6)) <= 10**6


def test_a_body_may_grow_so_many_times_and_no_more():
    small, large = gzip.compress(bytes(1 << 20)), gzip.compress(bytes(3 << 20))
    assert len(inflate(small, "gzip", 1 << 30, max_ratio=100)) == 1 << 20
    with pytest.raises(TooLarge, match="inflates to more than"):
        inflate(large, "gzip", 1 << 30, max_ratio=100)
    assert len(inflate(large, "gzip", 1 << 30, max_ratio=2000)) == 3 << 20
