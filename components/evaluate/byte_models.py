"""Byte models: what counting alone achieves on the same text, the bar a language model has to clear.

An order-n model predicts each byte from the n bytes before it, with Witten-Bell smoothing in its interpolated form
(Witten and Bell 1991, method C; Chen and Goodman 1999, section 2.4), down to the uniform distribution over 256 bytes:

    P_n(b | h) = (count(h b) + types(h) * P_{n-1}(b | h')) / (count(h) + types(h))

where types(h) is the number of different bytes seen after h, and h' is h without its first byte; an unseen h leaves
P_{n-1}. Each P_n sums to one over all bytes. Order 0 is the unigram model. Counts are sorted arrays of integer keys, so
that training is a sort and scoring a binary search, without a Python loop over bytes.

Documents are separate: before the first byte of each stand `order` zero bytes that are context but never scored. What a
language model pays for predicting where a document ends has no counterpart here, which favours the byte models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_ORDER = 6
CHUNK_BYTES = 1 << 24

Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """The counts of one context length.

    Attributes:
        grams: Context and byte as one integer (context << 8 | byte), ascending.
        gram_counts: How often each was seen.
        contexts: Contexts, ascending.
        context_counts: How often each was seen.
        context_types: Number of different bytes that followed each.
    """

    grams: Keys
    gram_counts: Counts
    contexts: Keys
    context_counts: Counts
    context_types: Counts


@dataclass(frozen=True)
class ByteModel:
    """An interpolated byte model: its counts for context lengths 0 to `order`."""

    orders: tuple[Order, ...]

    @property
    def order(self) -> int:
        """Bytes of context."""
        return len(self.orders) - 1

    def probabilities(self, grams: Keys) -> NDArray[np.float64]:
        """Probability of each gram's last byte after the bytes before it.

        Args:
            grams: `order` bytes of context and the byte itself, as one integer each, shape [N].
        """
        result = np.full(grams.shape, 1.0 / 256)
        for length, counts in enumerate(self.orders):
            gram = grams & np.uint64((1 << 8 * (length + 1)) - 1)
            seen = _look_up(counts.grams, counts.gram_counts, gram)
            context = gram >> np.uint64(8)
            total = _look_up(counts.contexts, counts.context_counts, context)
            types = _look_up(counts.contexts, counts.context_types, context)
            result = np.where(total > 0, (seen + types * result) / np.maximum(total + types, 1), result)
        return result


def train_byte_model(documents: Iterable[bytes], order: int) -> ByteModel:
    """Counts the bytes of documents in every context of up to `order` bytes.

    Args:
        documents: UTF-8 text, one item a document; read once, in chunks of bounded memory.
        order: Bytes of context, 0 to 6.

    Raises:
        ValueError: If the order is out of range or there is no text.
    """
    if not 0 <= order <= MAX_ORDER:
        raise ValueError(f"order {order} is not within 0 to {MAX_ORDER}")
    grams, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
    for chunk in _chunks(documents, order):
        new, new_counts = np.unique(chunk, return_counts=True)
        grams, counts = _merge(np.concatenate([grams, new]), np.concatenate([counts, new_counts]))
    if not len(grams):
        raise ValueError("there is no text to count")
    return ByteModel(tuple(_shorten(grams, counts, length) for length in range(order + 1)))


def bits_per_byte(model: ByteModel, documents: Iterable[bytes]) -> float:
    """Mean of -log2 P over all bytes of the documents; NaN if there are none."""
    bits, num_bytes = 0.0, 0
    for grams in _chunks(documents, model.order):
        bits -= float(np.log2(model.probabilities(grams)).sum())
        num_bytes += len(grams)
    return bits / num_bytes if num_bytes else math.nan


def grams_of(document: bytes, order: int) -> Keys:
    """Every byte of a document with its `order` bytes of context as one integer, shape [len(document)]."""
    padded = np.frombuffer(bytes(order) + document, dtype=np.uint8).astype(np.uint64)
    grams = np.zeros(len(document), dtype=np.uint64)
    for shift in range(order + 1):
        grams = grams << np.uint64(8) | padded[shift : shift + len(document)]
    return grams


def _chunks(documents: Iterable[bytes], order: int) -> Iterator[Keys]:
    held: list[Keys] = []
    size = 0
    for document in documents:
        held.append(grams_of(document, order))
        size += len(document)
        if size >= CHUNK_BYTES:
            yield np.concatenate(held)
            held, size = [], 0
    if held:
        yield np.concatenate(held)


def _merge(keys: Keys, counts: Counts) -> tuple[Keys, Counts]:
    """Adds up the counts of equal keys; keys come back ascending and unique."""
    if not len(keys):
        return keys, counts
    ranking = np.argsort(keys, kind="stable")
    keys, counts = keys[ranking], counts[ranking]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(counts, starts)


def _shorten(grams: Keys, counts: Counts, length: int) -> Order:
    """The counts for `length` bytes of context, out of those for the longest."""
    grams, counts = _merge(grams & np.uint64((1 << 8 * (length + 1)) - 1), counts)
    contexts = grams >> np.uint64(8)
    unique, totals = _merge(contexts, counts)
    _, types = _merge(contexts, np.ones(len(contexts), np.int64))
    return Order(grams, counts, unique, totals, types)


def _look_up(keys: Keys, values: Counts, wanted: Keys) -> Counts:
    """The value of each wanted key, 0 where it is unknown."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
