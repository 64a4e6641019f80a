"""One document shard to one training and one validation shard of ids: the unit of work of the tokens step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from components.documents import Document, read_shard
from components.publish import publish_json
from components.shards.format import TokenShard, token_dtype, write_tokens
from components.shards.split import split_hash
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS

Counts: TypeAlias = dict[str, dict[str, int]]
SPLITS = ("train", "val")
COUNTS = ("documents", "tokens", "bytes")

_BATCH = 512  # documents encoded at once: enough for the library's threads, little memory as Python ints


@dataclass(frozen=True)
class Encoding:
    """How to encode every shard alike. Picklable.

    Attributes:
        tokenizer: Folder of the tokenizer.
        output: Folder to write to.
        key: Key of the split.
        limit: Documents whose hash lies below it are for validation.
    """

    tokenizer: Path
    output: Path
    key: int
    limit: int


def encode_shard(encoding: Encoding, path: Path) -> None:
    """Writes the training and the validation shard of a document shard, under its name, and last what is in them."""
    tokenizer = TextTokenizer.from_folder(encoding.tokenizer)
    parts: dict[str, list[Document]] = {split: [] for split in SPLITS}
    for document in read_shard(path):
        parts["val" if split_hash(document.doc_id, encoding.key) < encoding.limit else "train"].append(document)
    counts = {split: _write(encoding, tokenizer, documents, split, path.name) for split, documents in parts.items()}
    publish_json(_done_path(encoding.output, path), counts)


def is_done(output: Path, path: Path) -> bool:
    """Whether a document shard was encoded and its shards still lie in `output`."""
    files = [_done_path(output, path), *(output / split / path.name for split in SPLITS)]
    return all(file.exists() for file in files)


def read_counts(output: Path, paths: Sequence[Path]) -> Counts:
    """What `encode_shard` wrote for all these document shards together."""
    total: Counts = {split: dict.fromkeys(COUNTS, 0) for split in SPLITS}
    for path in paths:
        part: Counts = json.loads(_done_path(output, path).read_text(encoding="utf-8"))
        for split, counts in part.items():
            for name, count in counts.items():
                total[split][name] += count
    return total


def _done_path(output: Path, path: Path) -> Path:
    return output / "done" / f"{path.stem}.json"


def _write(
    encoding: Encoding, tokenizer: TextTokenizer, documents: Sequence[Document], split: str, name: str
) -> dict[str, int]:
    dtype = np.dtype(token_dtype(tokenizer.vocab_size))
    tokens = [np.array([BOS, *ids, EOS], dtype=dtype) for ids in _encode(tokenizer, documents)]
    shard = TokenShard(
        doc_ids=pa.array([document.doc_id for document in documents], pa.binary(16)),
        langs=pa.array([document.lang for document in documents], pa.string()),
        num_bytes=np.array([len(document.text.encode()) for document in documents], dtype=np.uint32),
        offsets=np.cumsum([0, *map(len, tokens)], dtype=np.int64),
        values=np.concatenate([np.empty(0, dtype=dtype), *tokens]),
    )
    write_tokens(encoding.output / split / name, shard)
    num_bytes = int(shard.num_bytes.sum(dtype=np.int64))
    return dict(zip(COUNTS, (len(documents), len(shard.values), num_bytes), strict=True))


def _encode(tokenizer: TextTokenizer, documents: Sequence[Document]) -> Iterator[list[int]]:
    for start in range(0, len(documents), _BATCH):
        yield from tokenizer.encode_batch([document.text for document in documents[start : start + _BATCH]])
