"""Unigram vocabulary by expectation maximisation, the same on every machine and in every run.

The method is that of Kudo (2018), "Subword Regularization", section 3.2, as SentencePiece carries it out: start with
many frequent substrings, give each a probability by EM over all cuts of all words, take away those that the likelihood
misses least, a quarter at a time, until the vocabulary has its size. The trainers of SentencePiece and of
`tokenizers` add up floats in an order that hangs on threads or on a hash seed, and so do not give the same vocabulary
twice. Here the words come sorted with their counts, sums go in one order, and ties go by length and spelling. Scores
are rounded to 1e-6 after every step, so that processors whose `exp` differs in the last bit agree.

Tokens are runs of whole characters. A character that is no token is left to its bytes, which have a fixed, low
probability during training, and at the end a score below every token's; so rare characters compete with words for room,
where SentencePiece first gives room to all characters of the text but 0.05 %: of 4,096 ids for English and Chinese that
would leave a few hundred for everything else.

Words are laid end to end. A word of n characters has n + 1 nodes, and a token that occurs in it is an edge between two
of them; the forward and backward sums go over all words of a block at once, by distance from a word's beginning.

Edges take most of the memory, so those of one block are held at a time, in 32 bits, and found again for every step of
EM: that takes a fraction of the time of the sums, since what is sorted comes in ascending runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from components.tokenizer.counting import Entry
from components.tokenizer.pieces import LONGEST_TOKEN_BYTES

Ints: TypeAlias = NDArray[np.integer]
Floats: TypeAlias = NDArray[np.float64]

_BLOCK_CHARS = 1_000_000
_SEEDS_PER_TOKEN = 8
_KEPT_SHARE = 0.75
_EM_STEPS = 2
_LEAST_EXPECTED = 0.5  # a token expected less often than this in the whole text is gone
_LEAST_COUNT = 0.1  # keeps the score of a token that no cut wants finite
_DIGITS = 6
_BYTE_GAP = 5.0  # a single byte scores so much less than the least probable token
_BYTE_SCORE = -10.0  # logarithm of the probability of a byte, during training


@dataclass(frozen=True)
class Words:
    """Words laid end to end.

    Attributes:
        chars: Character numbers of all words [chars].
        starts: Where each word begins in `chars` [words], with the total at the end.
        counts: How often each word occurs [words].
    """

    chars: Ints
    starts: Ints
    counts: Floats


@dataclass(frozen=True)
class Trie:
    """Substrings by length: those of n characters are numbered by sorted keys, which hold the number of their prefix.

    Attributes:
        num_chars: Number of different characters; the substrings of length 1 are their numbers.
        keys: For length 2 on: prefix number * num_chars + last character, sorted.
        tokens: For length 1 on: the token that a substring is; otherwise, for one character, its number of bytes below
            zero, and for more characters -1.
    """

    num_chars: int
    keys: list[Ints]
    tokens: list[Ints]


@dataclass(frozen=True)
class Edges:
    """Occurrences of tokens in words.

    Attributes:
        source: Node where each begins [edges], sorted by distance of `target` from its word's beginning, then `target`.
        target: Node where each ends [edges].
        token: Which token [edges]; a character left to its n bytes is -n.
        forward: Where a new distance of `target` begins [distances], and the end.
        backward: Permutation by distance of `source`, then `source` [edges].
        returns: Where a new distance of `source` begins in it, and the end.
        firsts: First node of each word [words].
        lasts: Last node of each word [words].
        word: Word of each edge [edges].
    """

    source: Ints
    target: Ints
    token: Ints
    forward: Ints
    backward: Ints
    returns: Ints
    firsts: Ints
    lasts: Ints
    word: Ints


@dataclass
class Vocabulary:
    """The tokens so far.

    Attributes:
        texts: Their texts; those that are one byte come first.
        num_single: How many those are: they stay, since all bytes do.
        scores: Logarithms of their probabilities [tokens].
    """

    texts: list[str]
    num_single: int
    scores: Floats


def train_unigram(table: Iterable[Entry], size: int, min_frequency: int) -> list[tuple[str, float]]:
    """Learns a vocabulary and its scores.

    Args:
        table: Words with their counts, each once; read once.
        size: Entries wanted; 256 of them are the bytes.
        min_frequency: A token is a substring that occurs at least so often, and at least twice.

    Returns:
        The bytes' letters in their order, then the other tokens by falling score, all in byte letters; fewer than
        `size` if the words have too few substrings.
    """
    from components.tokenizer.train import BYTE_LETTERS, letters_of

    alphabet, words = _laid_out(sorted(table))
    vocabulary = _seeds(words, alphabet, max(2, min_frequency), _SEEDS_PER_TOKEN * size)
    blocks = _blocks(words)
    wanted = size - len(BYTE_LETTERS) + vocabulary.num_single
    while True:
        trie = _trie_of(vocabulary.texts, alphabet)
        counts = _learn(vocabulary, blocks, trie)
        if len(vocabulary.texts) <= wanted:
            break
        vocabulary = _pruned(vocabulary, counts, trie, alphabet, wanted)
    scores = {letters_of(text): float(score) for text, score in zip(vocabulary.texts, vocabulary.scores, strict=True)}
    least = round(min(scores.values(), default=0.0) - _BYTE_GAP, _DIGITS)
    of_bytes = [(letter, scores.pop(letter, least)) for letter in BYTE_LETTERS]
    others = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [*of_bytes, *others[: size - len(BYTE_LETTERS)]]


def _code_points(texts: Sequence[str]) -> Ints:
    return np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32).astype(np.int32)


def _laid_out(table: Sequence[Entry]) -> tuple[Ints, Words]:
    """The code points that occur, sorted, and the words in numbers of them."""
    code_points = _code_points([word for word, _ in table])
    alphabet = np.unique(code_points)
    chars = np.searchsorted(alphabet, code_points).astype(np.int32)
    starts = np.cumsum([0, *(len(word) for word, _ in table)])
    return alphabet, Words(chars, starts, np.array([count for _, count in table], dtype=np.float64))


def _blocks(words: Words) -> list[Words]:
    """Runs of whole words of about `_BLOCK_CHARS` characters."""
    cuts = np.unique(np.searchsorted(words.starts, np.arange(0, words.starts[-1], _BLOCK_CHARS)))
    cuts = np.append(cuts, len(words.counts))
    blocks = []
    for first, last in pairwise(cuts):
        starts = words.starts[first : last + 1]
        blocks.append(Words(words.chars[starts[0] : starts[-1]], starts - starts[0], words.counts[first:last]))
    return blocks


def _seeds(words: Words, alphabet: Ints, min_frequency: int, limit: int) -> Vocabulary:
    """Frequent characters, and the substrings that cover most text (frequency times length).

    A substring is looked at only if the two that lack its first or its last character are frequent.
    """
    lengths = np.diff(words.starts)
    weight = np.repeat(words.counts, lengths)
    room = _room(words)
    text = alphabet[words.chars].astype(np.uint32).tobytes().decode("utf-32-le")
    sizes = _utf8_sizes(alphabet[words.chars])
    singles = _singles(np.bincount(words.chars, weights=weight, minlength=len(alphabet)), alphabet, min_frequency)
    node, covered = words.chars.copy(), sizes.copy()
    found: list[tuple[float, int, str]] = []  # gain below zero, length, text
    for length in range(2, LONGEST_TOKEN_BYTES + 1):
        covered[: -(length - 1)] += sizes[length - 1 :]
        after = np.append(node[1:], -1)
        fits = (room >= length) & (node >= 0) & (after >= 0) & (covered <= LONGEST_TOKEN_BYTES)
        places = np.flatnonzero(fits)
        if not len(places):
            break
        keys = node[places].astype(np.int64) * len(alphabet) + words.chars[places + length - 1]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        frequency = np.bincount(inverse, weights=weight[places])
        kept = np.flatnonzero(frequency >= min_frequency)
        number = np.full(len(frequency), -1, dtype=np.int32)
        number[kept] = np.arange(len(kept))
        node = np.full(len(node), -1, dtype=np.int32)
        node[places] = number[inverse]
        gains = frequency[kept] * length
        spans = places[first[kept]]
        found += [(-gain, length, text[p : p + length]) for gain, p in zip(gains.tolist(), spans.tolist(), strict=True)]
        found = sorted(found)[:limit]
    gains = np.array([*singles.values(), *(-gain / length for gain, length, _ in found)])
    num_single = sum(ord(text) < 0x80 for text in singles)
    return Vocabulary([*singles, *(text for _, _, text in found)], num_single, np.log(gains / gains.sum()))


def _room(words: Words) -> Ints:
    """Characters from each one to the end of its word [chars]."""
    ends = np.repeat(words.starts[1:].astype(np.int32), np.diff(words.starts))
    room: Ints = np.subtract(ends, np.arange(len(words.chars), dtype=np.int32))
    return room


def _utf8_sizes(code_points: Ints) -> Ints:
    sizes = np.ones(len(code_points), dtype=np.int8)
    for most in (0x7F, 0x7FF, 0xFFFF):
        sizes += code_points > most
    return sizes


def _singles(frequency: NDArray[np.number], alphabet: Ints, min_frequency: int) -> dict[str, float]:
    """How often each single character occurs, in code point order: those of one byte, and the frequent others."""
    counts = zip(alphabet.tolist(), frequency.tolist(), strict=True)
    return {chr(code): count for code, count in counts if code < 0x80 or count >= min_frequency}


def _trie_of(texts: Sequence[str], alphabet: Ints) -> Trie:
    """The trie of some tokens; every prefix of a token is in it."""
    chars = np.searchsorted(alphabet, _code_points(texts))
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    tokens: list[Ints] = [-_utf8_sizes(alphabet).astype(np.int32)]
    short = lengths == 1
    tokens[0][chars[starts[short]]] = np.flatnonzero(short)
    keys: list[Ints] = []
    alive, node = np.arange(len(texts)), chars[starts]
    for length in range(2, int(lengths.max(initial=1)) + 1):
        longer = lengths[alive] >= length
        alive, node = alive[longer], node[longer]
        level, node = np.unique(
            node.astype(np.int64) * len(alphabet) + chars[starts[alive] + length - 1], return_inverse=True
        )
        keys.append(level)
        tokens.append(np.full(len(level), -1, dtype=np.int32))
        ends = lengths[alive] == length
        tokens[-1][node[ends]] = alive[ends]
    return Trie(len(alphabet), keys, tokens)


def _edges_of(words: Words, trie: Trie) -> Edges:
    """All occurrences of tokens in words, and of characters that are none."""
    room = _room(words)
    places, node = np.arange(len(words.chars), dtype=np.int32), words.chars
    found = [(places, np.ones(len(places), dtype=np.int8), trie.tokens[0][node])]
    for length, (keys, tokens) in enumerate(zip(trie.keys, trie.tokens[1:], strict=True), 2):
        fits = room[places] >= length
        places, node = places[fits], node[fits]
        wanted = node.astype(np.int64) * trie.num_chars + words.chars[places + length - 1]
        slot = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = keys[slot] == wanted
        places, node = places[hit], slot[hit].astype(np.int32)
        token = tokens[node]
        real = token >= 0
        found.append((places[real], np.full(int(real.sum()), length, dtype=np.int8), token[real]))
    place, length_of, token = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _ordered(words, place, length_of, token)


def _ordered(words: Words, place: Ints, length: Ints, token: Ints) -> Edges:
    """Edges in their order, given by length and then place: what is sorted here comes in few ascending runs."""
    word = np.repeat(np.arange(len(words.counts), dtype=np.int32), np.diff(words.starts))[place]
    source = place + word
    target = source + length
    left = _narrow(place - words.starts.astype(np.int32)[word])
    reached = _narrow(left.astype(np.int32) + length)
    order = np.lexsort((target, reached)).astype(np.int32)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order), dtype=np.int32)
    backward = rank[np.lexsort((source, left))]
    source, target, token, word = source[order], target[order], token[order], word[order]
    forward = np.cumsum(np.bincount(reached, minlength=1))
    returns = np.append(0, np.cumsum(np.bincount(left, minlength=1)))
    firsts = words.starts[:-1] + np.arange(len(words.counts))
    return Edges(source, target, token, forward, backward, returns, firsts, firsts + np.diff(words.starts), word)


def _narrow(values: Ints) -> Ints:
    """The same numbers, none negative, in as few bits as they need: those of up to 16 are sorted in linear time."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _learn(vocabulary: Vocabulary, blocks: Sequence[Words], trie: Trie) -> Floats:
    """Some steps of EM; changes the scores, returns the last expected counts [tokens]."""
    for _ in range(_EM_STEPS):
        counts = np.zeros(len(vocabulary.texts))
        for words in blocks:
            counts += _expected(words, _edges_of(words, trie), vocabulary.scores)
        counts = np.maximum(counts, _LEAST_COUNT)
        # The digamma of variational Bayes favours few and frequent tokens (Liang et al. 2007), as SentencePiece does.
        vocabulary.scores = np.round(_digamma(counts) - _digamma(counts.sum(keepdims=True)), _DIGITS)
    return counts


def _expected(words: Words, edges: Edges, scores: Floats) -> Floats:
    """How often each token is expected over all cuts of the words, weighted by probability [tokens]."""
    weights = _weights(scores, edges)
    num_nodes = int(edges.lasts.max(initial=-1)) + 1
    ahead, behind = np.full(num_nodes, -np.inf), np.full(num_nodes, -np.inf)
    ahead[edges.firsts] = 0.0
    for first, last in pairwise(edges.forward):
        sums = ahead[edges.source[first:last]] + weights[first:last]
        _add_up(ahead, edges.target[first:last], sums)
    behind[edges.lasts] = 0.0
    source, target, weight = edges.source[edges.backward], edges.target[edges.backward], weights[edges.backward]
    for first, last in reversed(list(pairwise(edges.returns))):
        _add_up(behind, source[first:last], behind[target[first:last]] + weight[first:last])
    share = ahead[edges.source]  # then in place, for there are many edges
    share += weights
    share += behind[edges.target]
    share -= ahead[edges.lasts][edges.word]
    np.exp(share, out=share)
    share *= words.counts[edges.word]
    known = edges.token >= 0
    return np.bincount(edges.token[known], weights=share[known], minlength=len(scores)).astype(np.float64)


def _weights(scores: Floats, edges: Edges) -> Floats:
    """Score of every edge [edges]; four more at the end are for characters of 4 to 1 bytes, numbered -4 to -1."""
    weights: Floats = np.append(scores, _BYTE_SCORE * np.arange(4, 0, -1))[edges.token]
    return weights


def _add_up(values: Floats, nodes: Ints, logs: Floats) -> None:
    """Sets the value of every node, given sorted, to the logarithm of the sum of its terms."""
    starts = np.flatnonzero(np.append(True, nodes[1:] != nodes[:-1]))
    most = np.maximum.reduceat(logs, starts)
    terms = np.exp(logs - np.repeat(most, np.diff(np.append(starts, len(nodes)))))
    values[nodes[starts]] = most + np.log(np.add.reduceat(terms, starts))


def _pruned(vocabulary: Vocabulary, counts: Floats, trie: Trie, alphabet: Ints, wanted: int) -> Vocabulary:
    """Takes away the tokens whose loss costs the likelihood least: count times what the next best cut scores less."""
    texts = vocabulary.texts
    lengths = [len(text) for text in texts]
    chars = np.searchsorted(alphabet, _code_points(texts))
    pieces = Words(chars, np.cumsum([0, *lengths]), np.ones(len(texts)))
    num_bytes = np.array([len(text.encode()) for text in texts])
    loss = np.round(counts * (vocabulary.scores - _next_best(pieces, num_bytes, trie, vocabulary.scores)), _DIGITS)
    loss[counts < _LEAST_EXPECTED] = -np.inf
    loss[: vocabulary.num_single] = np.inf
    size = max(wanted, int(_KEPT_SHARE * len(texts)))
    order = sorted(range(len(texts)), key=lambda index: (-loss[index], lengths[index], texts[index]))
    kept = sorted(order[:size])
    return Vocabulary([texts[index] for index in kept], vocabulary.num_single, vocabulary.scores[kept])


def _next_best(pieces: Words, num_bytes: Ints, trie: Trie, scores: Floats) -> Floats:
    """Score of the best cut of each token into other tokens and bytes [tokens]."""
    edges = _edges_of(pieces, trie)
    whole = (edges.source == edges.firsts[edges.word]) & (edges.target == edges.lasts[edges.word])
    weights = _weights(scores, edges)
    weights[whole] = _BYTE_SCORE * num_bytes[edges.word[whole]]  # a single character has no other cut than its bytes
    best = np.full(int(edges.lasts.max(initial=-1)) + 1, -np.inf)
    best[edges.firsts] = 0.0
    for first, last in pairwise(edges.forward):
        np.maximum.at(best, edges.target[first:last], best[edges.source[first:last]] + weights[first:last])
    found: Floats = best[edges.lasts]
    return found


def _digamma(x: Floats) -> Floats:
    """Derivative of the logarithm of the gamma function, by recurrence up to 6 and the asymptotic series."""
    shift = np.zeros_like(x)
    x = x.copy()
    for _ in range(6):
        small = x < 6
        shift[small] -= 1 / x[small]
        x[small] += 1
    inverse = 1 / (x * x)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))
    value: Floats = shift + np.log(x) - 0.5 / x - series
    return value
