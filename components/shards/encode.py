"""One document shard to one shard of ids for each side of the split: the unit of work of the tokens step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.documents import Document, iter_shard
from components.publish import publish_json, read_json, sha256_of
from components.shards.format import SPLITS, TokenDocument, TokenWriter, token_dtype
from components.shards.split import Limits
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS

GROUPINGS = ("lang", "source")

_BATCH = 512  # documents encoded at once: enough for the library's threads
_BATCH_CHARS = 1_000_000  # and characters: little memory as Python ints


@dataclass(frozen=True)
class Encoding:
    """How to encode every shard alike. Picklable.

    Attributes:
        tokenizer: Folder of the tokenizer.
        output: Folder to write to.
        limits: The split.
    """

    tokenizer: Path
    output: Path
    limits: Limits


def encode_shard(encoding: Encoding, path: Path) -> None:
    """Writes the shards of ids of a document shard, under its name, and last what is in them."""
    tokenizer = TextTokenizer.from_folder(encoding.tokenizer)
    dtype = token_dtype(tokenizer.vocab_size)
    groups: dict[str, dict[str, Counter[str]]] = {
        grouping: {split: Counter() for split in SPLITS} for grouping in GROUPINGS
    }
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(TokenWriter(encoding.output / split / path.name, dtype)) for split in SPLITS
        }
        for document, row in _encode(tokenizer, dtype, iter_shard(path)):
            split = encoding.limits.side(document.cluster or document.doc_id)
            writers[split].add(row)
            for grouping in GROUPINGS:
                name = getattr(document, grouping)
                groups[grouping][split].update({f"documents {name}": 1, f"tokens {name}": len(row.ids)})
    shards = {split: _entry(encoding.output / split / path.name, writer) for split, writer in writers.items()}
    publish_json(done_path(encoding.output, path), {"shards": shards, "groups": groups})


def is_done(output: Path, path: Path) -> bool:
    """Whether a document shard was encoded and its shards still lie in `output`."""
    files = [done_path(output, path), *(output / split / path.name for split in SPLITS)]
    return all(file.exists() for file in files)


def done_path(output: Path, path: Path) -> Path:
    """Where `encode_shard` tells what it wrote for a document shard."""
    return output / "done" / f"{path.stem}.json"


def read_meta(output: Path, paths: Sequence[Path]) -> dict[str, object]:
    """What `encode_shard` wrote for all these document shards together: most of `meta.json`, see `format`."""
    parts = [read_json(done_path(output, path)) for path in paths]
    shards = {split: [part["shards"][split] for part in parts] for split in SPLITS}  # type: ignore[index]
    totals = {
        split: {name: sum(entry[name] for entry in entries) for name in ("documents", "tokens", "bytes")}
        for split, entries in shards.items()
    }
    groups: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    for grouping in GROUPINGS:
        groups[grouping] = {split: {} for split in SPLITS}
        for split, table in groups[grouping].items():
            for part in parts:
                for key, count in part["groups"][grouping][split].items():  # type: ignore[index]
                    kind, _, name = key.partition(" ")
                    counts = table.setdefault(name, {"documents": 0, "tokens": 0})
                    counts[kind] += count
    return {**totals, "groups": groups, "shards": shards}


def _entry(path: Path, writer: TokenWriter) -> dict[str, object]:
    return {
        "name": path.name,
        "documents": writer.num_documents,
        "tokens": writer.num_tokens,
        "bytes": writer.num_bytes,
        "size": path.stat().st_size,
        "sha256": sha256_of(path),
    }


def _encode(
    tokenizer: TextTokenizer, dtype: str, documents: Iterable[Document]
) -> Iterator[tuple[Document, TokenDocument]]:
    for some in _batches(documents):
        rows = tokenizer.encode_batch([document.text for document in some])
        for document, ids in zip(some, rows, strict=True):
            values = np.empty(len(ids) + 2, dtype=dtype)
            values[0], values[1:-1], values[-1] = BOS, ids, EOS
            size = len(document.text.encode())
            yield (
                document,
                TokenDocument(document.doc_id, document.lang, document.source, document.cluster_size, size, values),
            )


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    chars = 0
    for document in documents:
        batch.append(document)
        chars += len(document.text)
        if len(batch) >= _BATCH or chars >= _BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch
