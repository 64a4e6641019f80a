"""What texts look like, in numbers: computed once for every rule, over many texts at a time.

A batch of texts is one array of code points; one pass of NumPy over it takes the place of a dozen passes of Python over
each text, and the cost of a NumPy call is shared by the batch. All statistics are functions of the one text they are of
(`names.py` says which), so thresholds can be moved without reading a text again, and the batch a text is in changes
nothing. The families are those of C4 (Raffel et al. 2020), Gopher (Rae et al. 2021, appendix A) and FineWeb (Penedo et
al. 2024), with words and n-grams that Chinese has without a segmenter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.score.characters import (
    BAD,
    DIGIT,
    HAN,
    KANA,
    LATIN,
    LATIN_UPPER,
    LETTER,
    NEWLINE,
    NUM_CLASSES,
    PUNCTUATION,
    RARE,
    SPACE,
    SYMBOL,
    UPPER,
    Classes,
    Codes,
    classify,
    codes_of,
    find_misread,
    lower,
)
from components.score.lines import Lines, count_repeats, find_lines
from components.score.names import PII_KINDS, STATISTICS
from components.score.ngrams import Repeats, Spans, group_by_value, repeats_of
from components.score.phrases import (
    LOREM,
    POLICY,
    PROMPT,
    SCRIPT,
    STOP,
    Phrases,
    boilerplate,
    find_phrases,
    function_words,
)
from components.score.words import Places, Words, find_words

Numbers = NDArray[np.float64]
MEASURED = tuple(name for name in STATISTICS if not name.startswith("pii_"))
"""The statistics of the text as it is; the others count what masking took out of it."""

MAX_CHARS = 2_000_000
"""Of a longer text only the beginning is measured, so that one giant does not take a worker's memory."""
_URL = re.compile(r"(?:https?://|www\.)[^\s\u3000-\u9fff\uff00-\uffef]+")
_WINDOW_WORDS = 100
_SHORT_COLUMNS = 30
_ENDS = np.zeros(0x10000, dtype=np.bool_)
_ENDS[[ord(mark) for mark in ".!?\u3002\uff01\uff1f\u2026"]] = True
_CLOSES = np.zeros(0x10000, dtype=np.bool_)
_CLOSES[[ord(mark) for mark in "\"')\u2019\u201d"]] = True
assert len(PII_KINDS) + len(MEASURED) == len(STATISTICS)


def measure(text: str, toxic: Phrases | None = None) -> dict[str, float]:
    """The statistics of one text by name; those of an empty text are zero."""
    return {name: float(values[0]) for name, values in measure_batch([text], toxic).items()}


def measure_batch(texts: Sequence[str], toxic: Phrases | None = None) -> dict[str, Numbers]:
    """The statistics of some texts.

    Args:
        texts: At most a million texts.
        toxic: The user's list of words and phrases.

    Returns:
        By name of statistic, in the order of `MEASURED`, one number a text.
    """
    if not texts:
        return {name: np.zeros(0) for name in MEASURED}
    chars = np.array([len(text) for text in texts], dtype=np.float64)
    texts = [text[:MAX_CHARS] for text in texts]
    codes = codes_of("".join(f"{text}\n" for text in texts))
    lengths = np.array([len(text) + 1 for text in texts])
    ends = np.cumsum(lengths)
    classes = classify(codes)
    docs = np.repeat(np.arange(len(texts)), lengths)
    words = find_words(lower(codes), classes, ends)
    lines = find_lines(codes, classes, ends)
    spans = Spans(words.hashes)
    found = _of_characters(texts, codes, classes, docs, lengths)
    found |= _of_words(words, len(texts), spans, toxic)
    found |= _of_lines(lines, words, spans, found["words"])
    found |= _of_ngrams(words, spans, found.pop("wide"))
    found["newline_word_ratio"] = found.pop("newlines") / np.maximum(found["words"], 1)
    found["symbol_word_ratio"] = found.pop("marks") / np.maximum(found["words"], 1)
    found["chars"] = chars
    return {name: found[name] for name in MEASURED}


def _of_characters(
    texts: Sequence[str], codes: Codes, classes: Classes, docs: Places, lengths: Places
) -> dict[str, Numbers]:
    num = len(texts)
    counts = np.bincount(docs * NUM_CLASSES + classes, minlength=num * NUM_CLASSES).reshape(num, NUM_CLASSES)
    counts[:, NEWLINE] -= 1  # the one that we put behind each text
    chars = lengths - 1
    spaces = counts[:, SPACE] + counts[:, NEWLINE]
    visible = np.maximum(chars - spaces, 1)
    wide = counts[:, HAN] + counts[:, KANA] + counts[:, RARE]
    upper = counts[:, UPPER] + counts[:, LATIN_UPPER]
    latin = counts[:, LATIN] + counts[:, LATIN_UPPER]
    others = counts[:, LETTER] + counts[:, UPPER]
    misread = np.bincount(docs.take(find_misread(codes)), minlength=num)
    curly = _count(docs, (codes == ord("{")) | (codes == ord("}")), num)
    sentences, ellipses = _ends_of_sentences(codes, classes)
    marks = np.bincount(docs.take(ellipses), minlength=num) + _count(docs, codes == ord("#"), num)
    urls = np.array([_url_chars(text) for text in texts])
    return {
        "wide": wide.astype(np.float64),
        "newlines": counts[:, NEWLINE].astype(np.float64),
        "marks": marks.astype(np.float64),
        "sentences": np.bincount(docs.take(sentences), minlength=num).astype(np.float64),
        "letter_share": (wide + latin + others) / visible,
        "han_share": (counts[:, HAN] + counts[:, RARE]) / visible,
        "kana_share": counts[:, KANA] / visible,
        "latin_share": latin / visible,
        "other_script_share": others / visible,
        "upper_share": upper / np.maximum(latin + others, 1),
        "digit_share": counts[:, DIGIT] / visible,
        "punctuation_share": counts[:, PUNCTUATION] / visible,
        "symbol_share": counts[:, SYMBOL] / visible,
        "space_share": spaces / np.maximum(chars, 1),
        "curly_share": curly / visible,
        "url_share": urls / visible,
        "mojibake_share": np.minimum((counts[:, BAD] + counts[:, RARE] + misread) / visible, 1.0),
    }


def _count(docs: Places, mask: NDArray[np.bool_], num: int) -> Places:
    """How many places of a mask lie in each document."""
    return np.bincount(docs.take(np.flatnonzero(mask)), minlength=num)


def _ends_of_sentences(codes: Codes, classes: Classes) -> tuple[Places, Places]:
    """Places of the last mark of each end of a sentence, and of each ellipsis.

    A mark ends a sentence if no other such mark follows, but a space, a closing mark, or anything at all if it is a
    full-width one: the point of 3.5 ends nothing.
    """
    places = np.flatnonzero(_ENDS.take(codes, mode="clip"))
    after = codes.take(places + 1, mode="clip")
    closed = _CLOSES.take(after, mode="clip") | np.isin(classes.take(places + 1, mode="clip"), (SPACE, NEWLINE))
    ends = ~_ENDS.take(after, mode="clip") & (closed | (codes.take(places) > 0x2FFF))
    dots = codes.take(places) == ord(".")
    third = dots.copy()  # the last of three points in a row, and no fourth before them
    for back in (1, 2):
        third &= codes.take(np.maximum(places - back, 0)) == ord(".")
    third &= (places >= 2) & ((places < 3) | (codes.take(np.maximum(places - 3, 0)) != ord(".")))
    return places[ends], places[third | (codes.take(places) == 0x2026)]


def _url_chars(text: str) -> int:
    if "http" not in text and "www." not in text:
        return 0
    return sum(map(len, _URL.findall(text)))


def _of_words(words: Words, num: int, spans: Spans, toxic: Phrases | None) -> dict[str, Numbers]:
    counts = np.diff(words.bounds).astype(np.float64)
    total = np.maximum(counts, 1)
    places, _, groups = find_phrases(function_words(), words, spans)
    stops = places[groups == STOP]
    order, again = group_by_value(words.docs.take(stops), words.hashes.take(stops))
    return {
        "words": counts,
        "mean_word_chars": np.bincount(words.docs, weights=words.lengths, minlength=num) / total,
        "max_word_chars": _largest(words.lengths, words.docs, num),
        "alpha_word_share": np.bincount(words.docs, weights=words.letters, minlength=num) / total,
        "function_word_share": np.bincount(words.docs.take(places), minlength=num) / total,
        "stop_words": np.bincount(words.docs.take(stops[order[~again]]), minlength=num).astype(np.float64),
        "distinct_word_share": _distinct_share(words),
        "toxic_word_share": _covered_words(toxic, words, spans, num) / total if toxic else np.zeros(num),
    }


def _covered_words(phrases: Phrases, words: Words, spans: Spans, num: int) -> Numbers:
    """Words inside a phrase, by document; a word in two phrases counts once."""
    places, sizes, _ = find_phrases(phrases, words, spans)
    return _covered(places, sizes, np.ones(len(words.docs)), words.docs, num)


def _covered(places: Places, sizes: Places, weights: Numbers | Places, docs: Places, num: int) -> Numbers:
    """Sum of the weights of the words inside some spans, by document."""
    if not len(places):
        return np.zeros(num)
    steps = np.bincount(places, minlength=len(docs) + 1) - np.bincount(places + sizes, minlength=len(docs) + 1)
    inside = np.flatnonzero(np.cumsum(steps[:-1]))
    sums: Numbers = np.bincount(docs.take(inside), weights=weights.take(inside), minlength=num).astype(np.float64)
    return sums


def _distinct_share(words: Words) -> Numbers:
    """Distinct words in a window of words, as a share; mean over whole windows, so that long texts compare with short.

    A text shorter than a window is one window.
    """
    counts = np.diff(words.bounds)
    width = np.minimum(counts, _WINDOW_WORDS)
    windows = counts // np.maximum(width, 1)
    position = np.arange(len(words.docs)) - words.bounds.take(words.docs)
    inside = np.flatnonzero(position < (windows * width).take(words.docs))
    docs = words.docs.take(inside)
    window = np.cumsum(windows).take(docs) - windows.take(docs) + position.take(inside) // _WINDOW_WORDS
    keys = np.sort((window.astype(np.uint64) << np.uint64(40)) | (words.hashes.take(inside) >> np.uint64(24)))
    new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    owner = np.repeat(np.arange(len(counts)), windows)
    distinct = np.bincount(owner.take((keys[new] >> np.uint64(40)).astype(np.int64)), minlength=len(counts))
    shares: Numbers = distinct / np.maximum(windows * width, 1)
    return shares


def _of_lines(lines: Lines, words: Words, spans: Spans, counts: Numbers) -> dict[str, Numbers]:
    num = len(counts)
    total_lines = np.bincount(lines.docs, minlength=num)
    most = np.maximum(total_lines, 1)
    chars = np.maximum(np.bincount(lines.docs, weights=lines.lengths, minlength=num), 1)
    paragraph_docs = lines.docs.take(lines.paragraphs)
    paragraphs = np.bincount(paragraph_docs, minlength=num)
    repeats, repeated_chars = count_repeats(lines.docs, lines.hashes, lines.lengths, num)
    again, again_chars = count_repeats(paragraph_docs, lines.paragraph_hashes, lines.paragraph_lengths, num)
    places, sizes, groups = find_phrases(boilerplate(), words, spans)
    line = np.searchsorted(lines.ends, words.places.take(places))
    total_words = np.maximum(counts, 1)

    def words_in(group: int) -> Numbers:
        chosen = groups == group
        return _covered(places[chosen], sizes[chosen], np.ones(len(words.docs)), words.docs, num) / total_words

    def share_with(group: int) -> Numbers:
        named = np.unique(line[groups == group])
        return np.bincount(lines.docs.take(named), minlength=num) / most

    return {
        "lines": total_lines.astype(np.float64),
        "paragraphs": paragraphs.astype(np.float64),
        "line_columns": np.bincount(lines.docs, weights=lines.columns, minlength=num) / most,
        "words_per_line": counts / most,
        "terminal_line_share": _count(lines.docs, lines.terminal, num) / most,
        "short_line_share": _count(lines.docs, lines.columns <= _SHORT_COLUMNS, num) / most,
        "bullet_line_share": _count(lines.docs, lines.bullet, num) / most,
        "ellipsis_line_share": _count(lines.docs, lines.ellipsis, num) / most,
        "policy_line_share": share_with(POLICY),
        "javascript_line_share": share_with(SCRIPT),
        "lorem_ipsum": np.bincount(words.docs.take(places[groups == LOREM]), minlength=num).astype(np.float64),
        "policy_word_share": words_in(POLICY),
        "prompt_word_share": words_in(PROMPT),
        "duplicate_line_share": repeated_chars / chars,
        "duplicate_lines": repeats / most,
        "duplicate_paragraph_share": again_chars / chars,
        "duplicate_paragraphs": again / np.maximum(paragraphs, 1),
    }


def _of_ngrams(words: Words, spans: Spans, wide: Numbers) -> dict[str, Numbers]:
    counts = np.diff(words.bounds)
    scales = np.where(2 * wide > counts, 2, 1)
    upto = np.append(0, np.cumsum(words.lengths))
    chars = np.maximum(upto.take(words.bounds[1:]) - upto.take(words.bounds[:-1]), 1)
    found: dict[str, Numbers] = {}
    for repeats in repeats_of(spans, words, scales, range(2, 11)):
        docs = repeats.docs.take(repeats.groups)
        if repeats.length <= 4:
            size = repeats.sizes.take(repeats.groups)
            taken = upto.take(repeats.first + size) - upto.take(repeats.first)
            share = _largest(repeats.counts * taken, docs, len(counts)) / chars
            found[f"top_{repeats.length}gram_share"] = np.minimum(share, 1)
        else:
            share = _repeated_chars(repeats, words, len(counts)) / chars
            found[f"duplicate_{repeats.length}gram_share"] = share
        if repeats.length == 3:
            most = _largest((repeats.counts - 1) * repeats.sizes.take(repeats.groups), docs, len(counts))
            found["top_ngram_share"] = np.minimum(most / np.maximum(counts, 1), 1)
        if repeats.length == 5:
            times = np.bincount(docs, weights=repeats.counts - 1, minlength=len(counts))
            found["repeated_ngram_share"] = times / np.maximum(counts - 5 * scales + 1, 1)
    return found


def _largest(values: Places, docs: Places, num: int) -> Numbers:
    """The largest value of each document; documents come in order."""
    largest = np.zeros(num)
    starts = np.flatnonzero(np.diff(docs, prepend=-1))
    if len(starts):
        largest[docs.take(starts)] = np.maximum.reduceat(values, starts)
    return largest


def _repeated_chars(repeats: Repeats, words: Words, num: int) -> Numbers:
    """Characters of words inside an n-gram that repeats an earlier one."""
    later = repeats.places != np.repeat(repeats.first, repeats.counts)
    return _covered(repeats.places[later], repeats.sizes[later], words.lengths, words.docs, num)
