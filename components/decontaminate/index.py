"""The n-grams of all evaluation items in one sorted table: what a document is looked up in.

A part with at least `words` words (or `hanzi` hanzi) is known by all its n-grams, a shorter one by itself as a whole,
if it is long enough to prove anything. Memory goes by the size of the evaluation sets, never by that of the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.decontaminate.config import DecontaminateConfig
from components.decontaminate.grams import Tokens, tokens_of
from components.decontaminate.items import Item
from components.publish import publish
from components.sketch.hashing import Keys

CHECKED, TOO_SHORT, TEMPLATE = "checked", "too_short", "template"
ANYWHERE, ALONE_OR_ANSWERED, ALONE_AND_ANSWERED = 0, 1, 2
_FILTER_BITS = 20
_LEAST_QUESTION = 3

_GRAMS = pa.schema([("hash", pa.uint64()), ("part", pa.int64()), ("weight", pa.float64())])
_PARTS = pa.schema([(name, pa.int64()) for name in ("item", "tokens", "length", "grams", "place", "alone")])
_ITEMS = pa.schema([("tokens", pa.int64()), ("answer", pa.large_list(pa.uint64()))])


@dataclass(frozen=True)
class Part:
    """One part of an item, as far as it proves anything.

    Attributes:
        item: Number of the item.
        tokens: Its length.
        length: Tokens of its n-grams: its own length if it is known as a whole.
        place: ANYWHERE for n-grams; a whole part must be a sentence or line or be followed by the answer, and a very
            short question must be both.
        alone: Whether enough of this part is a leak even without the other parts.
    """

    item: int
    tokens: int
    length: int
    place: int
    alone: bool


@dataclass(frozen=True)
class Index:
    """What documents are looked up in.

    Attributes:
        hashes: The distinct n-grams, ascending.
        offsets: Where the entries of each begin, and the end.
        entry_part: Part of each entry.
        entry_weight: Tokens that an entry stands for: those of the part over its n-grams.
        parts: All parts.
        part_grams: Distinct n-grams of each part.
        item_tokens: Tokens of each item, all its parts together.
        answers: Hashes of the tokens of each item's answer.
        lengths: All lengths of n-grams.
        filter: For each value of a hash's upper bits, whether some n-gram has it.
    """

    hashes: Keys
    offsets: NDArray[np.int64]
    entry_part: NDArray[np.int64]
    entry_weight: NDArray[np.float64]
    parts: list[Part]
    part_grams: NDArray[np.int64]
    item_tokens: list[int]
    answers: list[Keys]
    lengths: list[int]
    filter: NDArray[np.bool_]

    def find(self, hashes: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of some hashes are n-grams of items: their places, and their rows in `self.hashes`."""
        likely = np.flatnonzero(self.filter[hashes >> np.uint64(64 - _FILTER_BITS)])
        rows = np.searchsorted(self.hashes, hashes[likely])
        rows = np.minimum(rows, len(self.hashes) - 1)
        found = self.hashes[rows] == hashes[likely] if len(self.hashes) else np.zeros(0, dtype=np.bool_)
        return likely[found], rows[found]


def build_index(items: Sequence[Item], config: DecontaminateConfig, folder: Path) -> list[str]:
    """Writes the index of some items.

    Args:
        items: The items.
        config: The lengths.
        folder: Where its three tables go.

    Returns:
        For each item "checked", or why it cannot be: "too_short", or "template" if it holds forms of words alone.
    """
    parts: list[Part] = []
    grams: list[Keys] = []
    contents: list[int] = []
    tokens_of_items, answers = [], []
    for number, item in enumerate(items):
        texts = [tokens_of(text) for text in item.parts]
        answer = tokens_of(item.answer) if item.answer else None
        tokens_of_items.append(sum(map(len, texts)))
        answers.append(answer.grams(1) if answer else np.zeros(0, dtype=np.uint64))
        for place, tokens in enumerate(texts):
            part = _part(number, tokens, place == 0 and item.is_question, len(answers[-1]), config)
            if part is not None:
                parts.append(part)
                grams.append(np.unique(tokens.grams(part.length)))
                contents.append(int(tokens.grams(len(tokens))[0]))
    common = _forms_of_words(grams, contents, config.template_parts)
    telling = [one[~np.isin(one, common)] for one in grams]
    _write(folder, parts, telling, tokens_of_items, answers)
    needed = [config.coverage * size for size in tokens_of_items]
    told = _proven(parts, telling, needed)
    return [
        CHECKED if is_told else TEMPLATE if was_told else TOO_SHORT
        for is_told, was_told in zip(told, _proven(parts, grams, needed), strict=True)
    ]


def _proven(parts: Sequence[Part], grams: Sequence[Keys], needed: Sequence[float]) -> list[bool]:
    """For each item, whether it would be found where it stands word for word."""
    enough, tokens = [False] * len(needed), [0] * len(needed)
    for part, one in zip(parts, grams, strict=True):
        if len(one):
            tokens[part.item] += part.tokens
            enough[part.item] |= part.alone or tokens[part.item] >= needed[part.item]
    return enough


def _part(item: int, tokens: Tokens, is_question: bool, answer_tokens: int, config: DecontaminateConfig) -> Part | None:
    n, least = config.lengths(tokens.mostly_hanzi)
    size = len(tokens)
    if size >= n:
        return Part(item, size, n, ANYWHERE, True)
    if size >= least:
        return Part(item, size, size, ALONE_OR_ANSWERED, is_question)
    if is_question and answer_tokens and size >= _LEAST_QUESTION and size + answer_tokens >= least:
        return Part(item, size, size, ALONE_AND_ANSWERED, True)
    return None


def _forms_of_words(grams: Sequence[Keys], contents: Sequence[int], most: int) -> Keys:
    """The n-grams in more than `most` parts that are not the same text."""
    if not grams:
        return np.zeros(0, dtype=np.uint64)
    distinct = dict(zip(contents, grams, strict=True))
    hashes, counts = np.unique(np.concatenate(list(distinct.values())), return_counts=True)
    return hashes[counts > most]


def _write(
    folder: Path, parts: Sequence[Part], grams: Sequence[Keys], item_tokens: Sequence[int], answers: Sequence[Keys]
) -> None:
    sizes = np.array([len(one) for one in grams], dtype=np.int64)
    hashes = np.concatenate([np.zeros(0, dtype=np.uint64), *grams])
    owner = np.repeat(np.arange(len(parts)), sizes)
    lengths = np.array([part.tokens for part in parts], dtype=np.float64)
    weights = lengths[owner] / np.maximum(sizes, 1)[owner] if len(parts) else np.zeros(0)
    order = np.lexsort((owner, hashes))
    _write_table(folder / "grams.arrow", pa.table([hashes[order], owner[order], weights[order]], schema=_GRAMS))
    rows = [
        {**vars(part), "alone": int(part.alone), "grams": int(size)} for part, size in zip(parts, sizes, strict=True)
    ]
    _write_table(folder / "parts.arrow", pa.Table.from_pylist(rows, schema=_PARTS))
    lists = pa.array([answer.tolist() for answer in answers], pa.large_list(pa.uint64()))
    _write_table(folder / "items.arrow", pa.table([pa.array(item_tokens, pa.int64()), lists], schema=_ITEMS))


def _write_table(path: Path, table: pa.Table) -> None:
    with (
        publish(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as out,
    ):
        out.write_table(table)


def _read_table(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def open_index(folder: Path) -> Index:
    """Reads the index that `build_index` wrote."""
    grams, parts, items = (_read_table(folder / f"{name}.arrow") for name in ("grams", "parts", "items"))
    hashes, starts = np.unique(grams.column("hash").to_numpy(), return_index=True)
    rows = parts.to_pylist()
    bits = np.zeros(1 << _FILTER_BITS, dtype=np.bool_)
    bits[hashes >> np.uint64(64 - _FILTER_BITS)] = True
    return Index(
        hashes=hashes,
        offsets=np.append(starts, grams.num_rows),
        entry_part=grams.column("part").to_numpy(),
        entry_weight=grams.column("weight").to_numpy(),
        parts=[Part(row["item"], row["tokens"], row["length"], row["place"], bool(row["alone"])) for row in rows],
        part_grams=parts.column("grams").to_numpy(),
        item_tokens=items.column("tokens").to_pylist(),
        answers=[np.array(answer, dtype=np.uint64) for answer in items.column("answer").to_pylist()],
        lengths=sorted({row["length"] for row in rows if row["grams"]}),
        filter=bits,
    )
