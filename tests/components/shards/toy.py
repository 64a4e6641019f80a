"""Small tokens artifacts made of numbers, with no tokenizer and no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from components.publish import publish_json, sha256_of
from components.shards.format import FORMAT, SPLITS, TokenDocument, TokenWriter
from components.tokenizer.special import BOS, EOS


@dataclass(frozen=True)
class Toy:
    """One document: its text as ids (7 and above), its group and how many near duplicates it stands for."""

    ids: Sequence[int]
    lang: str = "en"
    cluster_size: int = 1
    source: str = "toy"


def doc_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def row_of(toy: Toy) -> list[int]:
    return [BOS, *toy.ids, EOS]


def numbered(count: int, size: int = 30, lang: str = "en") -> list[Toy]:
    """Documents whose ids tell them apart."""
    return [Toy(range(100 + 50 * number, 100 + 50 * number + size), lang) for number in range(count)]


def varied(count: int, seed: int, longest: int = 60, langs: Sequence[str] = ("en",)) -> list[Toy]:
    """Documents of many lengths, mostly short, in turn of each language."""
    draw = np.random.default_rng(seed)
    sizes = np.minimum(draw.geometric(0.08, count), longest)
    return [
        Toy(draw.integers(7, 60_000, size).tolist(), langs[int(draw.integers(len(langs)))], 1 + number % 20)
        for number, size in enumerate(sizes)
    ]


def write_shard(path: Path, documents: Sequence[Toy], first: int = 0, dtype: str = "uint16") -> dict[str, object]:
    """Writes a shard; returns its entry of `meta.json`."""
    with TokenWriter(path, dtype) as writer:
        for number, toy in enumerate(documents, start=first):
            ids = np.array(row_of(toy), dtype=dtype)
            writer.add(TokenDocument(doc_id(number), toy.lang, toy.source, toy.cluster_size, 3 * len(toy.ids), ids))
    counts = {"documents": writer.num_documents, "tokens": writer.num_tokens, "bytes": writer.num_bytes}
    return {"name": path.name, **counts, "size": path.stat().st_size, "sha256": sha256_of(path)}


def write_tokens(folder: Path, dtype: str = "uint16", **splits: Sequence[Sequence[Toy]]) -> Path:
    """Writes a tokens artifact; each split is a list of shards."""
    shards: dict[str, list[dict[str, object]]] = {}
    groups: dict[str, dict[str, dict[str, dict[str, int]]]] = {"lang": {}, "source": {}}
    for split in SPLITS:
        first, shards[split] = 0, []
        (folder / split).mkdir(parents=True, exist_ok=True)
        for index, documents in enumerate(splits.get(split, [[]])):
            path = folder / split / f"shard-{index:05d}.arrow"
            shards[split].append(write_shard(path, documents, first, dtype))
            first += len(documents)
        for grouping, table in groups.items():
            names = {getattr(toy, grouping) for documents in splits.get(split, []) for toy in documents}
            table[split] = {name: {"documents": 0, "tokens": 0} for name in sorted(names)}
    totals = {
        split: {
            name: sum(int(str(entry[name])) for entry in shards[split]) for name in ("documents", "tokens", "bytes")
        }
        for split in SPLITS
    }
    about = {"format": FORMAT, "vocab_size": 1 << 16, "dtype": dtype, "tokenizer": ""}
    publish_json(folder / "meta.json", {**about, **totals, "groups": groups, "shards": shards})
    return folder


def in_language(toys: Sequence[Toy], lang: str) -> list[Toy]:
    return [replace(toy, lang=lang) for toy in toys]
