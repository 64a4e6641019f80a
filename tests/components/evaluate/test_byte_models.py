"""Byte models: exact on small cases, and true distributions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluate import byte_models
from components.evaluate.byte_models import bits_per_byte, grams_of, train_byte_model

DOCUMENTS = st.lists(st.binary(max_size=30), min_size=1, max_size=5).filter(any)


def slow_probability(documents, order, context, byte):
    """The definition, read aloud: Witten-Bell over plain dictionaries."""
    if order < 0:
        return 1 / 256
    lower = slow_probability(documents, order - 1, context[1:], byte)
    followers = [
        document[i]
        for document in documents
        for padded in [bytes(order) + document]
        for i in range(len(document))
        if padded[i : i + order] == context
    ]
    types = len(set(followers))
    return (followers.count(byte) + types * lower) / (len(followers) + types) if followers else lower


@settings(max_examples=40, deadline=None)
@given(DOCUMENTS, st.integers(0, 4), st.binary(min_size=4, max_size=4))
def test_the_probabilities_of_all_bytes_sum_to_one(documents, order, context):
    model = train_byte_model(documents, order)
    start = context[:order]
    grams = np.array([int.from_bytes(start + bytes([byte]), "big") for byte in range(256)], np.uint64)
    assert model.probabilities(grams).sum() == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=12), min_size=1, max_size=3).filter(any), st.integers(0, 3), st.binary(max_size=8))
def test_probabilities_equal_the_recursive_definition(documents, order, text):
    model = train_byte_model(documents, order)
    padded = bytes(order) + text
    expected = [slow_probability(documents, order, padded[i : i + order], text[i]) for i in range(len(text))]
    assert model.probabilities(grams_of(text, order)).tolist() == pytest.approx(expected)


def test_a_unigram_of_two_equal_bytes_costs_a_little_over_one_bit():
    model = train_byte_model([b"ab" * 5000], 0)
    assert bits_per_byte(model, [b"abab"]) == pytest.approx(1.0, abs=1e-3)


def test_context_pays_on_text_that_repeats():
    text = [b"the cat sat on the mat. " * 40]
    scores = [bits_per_byte(train_byte_model(text, order), text) for order in range(4)]
    assert scores == sorted(scores, reverse=True)
    assert scores[3] < 0.5 < 2.5 < scores[0]


def test_documents_do_not_leak_into_each_other():
    model = train_byte_model([b"xa", b"xb"], 1)
    grams = np.array([int.from_bytes(pair, "big") for pair in (b"ax", b"\x00x")], np.uint64)
    after_a, at_the_start = model.probabilities(grams).tolist()
    assert at_the_start > 2 * after_a


def test_the_size_of_chunks_does_not_matter(monkeypatch):
    documents = [bytes([65 + i % 7, 66 + i % 3, 67]) * (i + 1) for i in range(20)]
    whole = train_byte_model(documents, 3)
    monkeypatch.setattr(byte_models, "CHUNK_BYTES", 10)
    pieces = train_byte_model(documents, 3)
    assert bits_per_byte(pieces, documents) == pytest.approx(bits_per_byte(whole, documents), rel=1e-12)
    assert all((a.gram_counts == b.gram_counts).all() for a, b in zip(whole.orders, pieces.orders, strict=True))


def test_nothing_to_count_is_refused_and_nothing_to_score_is_nan():
    with pytest.raises(ValueError, match="no text"):
        train_byte_model([b""], 3)
    assert math.isnan(bits_per_byte(train_byte_model([b"a"], 1), []))
