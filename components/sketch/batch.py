"""Sketches many documents together: one pass of NumPy over all their texts instead of a dozen small ones over each.

The texts of a group with the same settings lie one after the other. Hashes of stretches do not depend on what lies
before them, so a sketch is the same in any company; the least hash of a bin, the windows of a passage and the lines
are told apart by where each text begins and ends. It halves the time for texts of some 1,000 characters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from components.documents import Document
from components.sketch.config import MinHashConfig, SketchConfig, is_cjk
from components.sketch.folding import Folded, fold_texts, line_spans
from components.sketch.hashing import Keys, Stretches, fingerprints, sorted_set
from components.sketch.minhash import MinHasher
from components.sketch.shingles import digest_of, shingle_sets
from components.sketch.sketches import LANG_BYTES, Sketch

TOGETHER = 32
"""Documents a group: few enough that their hashes stay in the processor's cache."""


@dataclass(frozen=True)
class _Settings:
    """What the texts of a group have in common."""

    minhash: MinHashConfig
    line_chars: int
    passage_chars: int
    without_gaps: bool


def sketches_of(documents: Sequence[Document], config: SketchConfig) -> list[Sketch]:
    """The sketches of some documents, in their order."""
    groups: dict[_Settings, list[int]] = defaultdict(list)
    for place, document in enumerate(documents):
        lang = document.lang
        groups[_Settings(config.minhash(lang), *config.lengths(lang), is_cjk(lang))].append(place)
    found: dict[int, Sketch] = {}
    for settings, places in groups.items():
        found |= dict(zip(places, _sketch_group([documents[place] for place in places], settings), strict=True))
    return [found[place] for place in range(len(documents))]


def _sketch_group(documents: Sequence[Document], settings: _Settings) -> list[Sketch]:
    minhash, passage_chars = settings.minhash, settings.passage_chars
    folded = fold_texts([document.text for document in documents], settings.without_gaps)
    stretches = Stretches(folded.codes)
    shingles, offsets = shingle_sets(stretches, folded.starts, folded.ends, minhash.shingle_chars)
    signatures = _hasher(minhash).bands_of_sets(shingles, offsets)
    lines = _lines(folded, stretches, settings.line_chars)
    none = [np.zeros(0, dtype=np.uint64)] * len(documents)
    passages = fingerprints(stretches, folded.starts, folded.ends, passage_chars) if passage_chars else none
    return [
        Sketch(
            document.doc_id,
            document.url,
            document.lang.encode()[:LANG_BYTES].ljust(LANG_BYTES, b"\0"),
            len(document.text),
            end - start,
            digest_of(folded.codes[start:end]),
            signatures[number],
            shingles[offsets[number] : offsets[number + 1]],
            lines[number],
            passages[number],
        )
        for number, (document, start, end) in enumerate(
            zip(documents, folded.starts.tolist(), folded.ends.tolist(), strict=True)
        )
    ]


@cache
def _hasher(minhash: MinHashConfig) -> MinHasher:
    return MinHasher(minhash.bands, minhash.rows, salt=minhash.shingle_chars)


def _lines(folded: Folded, stretches: Stretches, line_chars: int) -> list[Keys]:
    """For each text, the distinct hashes of its lines that are long enough."""
    starts, _, first, last = line_spans(folded)
    long = last - first >= line_chars
    hashes = stretches.hashes(first[long], last[long])
    owners = np.searchsorted(starts[long], np.append(folded.firsts, len(folded.raw) + 1))
    return [sorted_set(hashes[low:high]) for low, high in pairwise(owners.tolist())]
