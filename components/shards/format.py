"""The layout of token shards, shared by the step that writes them and the loader that maps them.

Raw (uncompressed) Arrow IPC: the ids of a record batch lie in one buffer that is used straight from the page cache, and
the documents stay visible. A batch ends after `BATCH_TOKENS` ids or `BATCH_DOCUMENTS` documents, so that a writer's
memory does not grow with the shard; a document never spans two batches.

Layout of a tokens artifact:
    train/shard-00000.arrow ...    one file per document shard, the same in `val` and `test`
    meta.json    {"format", "vocab_size", "dtype", "tokenizer" (SHA-256 of tokenizer.json),
                  "train" | "val" | "test": {"documents", "tokens", "bytes"},
                  "groups": {"lang" | "source": {split: {name: {"documents", "tokens"}}}},
                  "shards": {split: [{"name", "documents", "tokens", "size", "sha256"}]}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.arrow_files import ArrowWriter
from components.errors import StepError

FORMAT = 2
SPLITS = ("train", "val", "test")
BATCH_TOKENS = 1 << 22
BATCH_DOCUMENTS = 1 << 16

Ids: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class TokenBatch:
    """Some documents of one shard as ids; all of it stays in the file until somebody asks.

    Attributes:
        doc_ids: Arrow array of 16 bytes each, ascending.
        langs: Arrow array of language codes.
        sources: Arrow array of names of corpora.
        cluster_sizes: Near duplicates that each document stands for, itself included; int32 [documents].
        num_bytes: UTF-8 bytes of each document's text, uint32 [documents].
        offsets: Document i is `values[offsets[i]:offsets[i + 1]]`; int64 [documents + 1].
        values: Ids of all documents one after the other, `[bos] + text + [eos]` each; uint16 or uint32.
    """

    doc_ids: pa.Array
    langs: pa.Array
    sources: pa.Array
    cluster_sizes: NDArray[np.int32]
    num_bytes: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    values: Ids


@dataclass(frozen=True)
class TokenDocument:
    """One document as ids, see `TokenBatch`."""

    doc_id: bytes
    lang: str
    source: str
    cluster_size: int
    num_bytes: int
    ids: Ids


def token_dtype(vocab_size: int) -> str:
    """The narrowest type that holds every id: "uint16" up to 65,536 of them, else "uint32"."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def token_schema(dtype: str) -> pa.Schema:
    """The columns of a token shard."""
    return pa.schema(
        [
            ("doc_id", pa.binary(16)),
            ("lang", pa.string()),
            ("source", pa.string()),
            ("cluster_size", pa.int32()),
            ("num_bytes", pa.uint32()),
            ("tokens", pa.large_list(pa.from_numpy_dtype(np.dtype(dtype)))),
        ]
    )


class TokenWriter(ArrowWriter):
    """Writes one shard document by document; a context manager, published on a clean exit.

    Args:
        path: The file.
        dtype: Type of the ids.

    Attributes:
        num_documents: Documents so far.
        num_tokens: Ids so far.
        num_bytes: Bytes of text so far.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.num_documents = self.num_tokens = self.num_bytes = 0
        super().__init__(path, token_schema(dtype), None)
        self._dtype = np.dtype(dtype)
        self._waiting: list[TokenDocument] = []
        self._size = 0

    def add(self, document: TokenDocument) -> None:
        """Adds a document; they come in ascending order of their ids."""
        self._waiting.append(document)
        self._size += len(document.ids)
        self.num_documents += 1
        self.num_tokens += len(document.ids)
        self.num_bytes += document.num_bytes
        if self._size >= BATCH_TOKENS or len(self._waiting) >= BATCH_DOCUMENTS:
            self._flush()

    def _finish(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_batch(pa.RecordBatch.from_arrays(self._columns(), schema=self._schema))
        self._waiting, self._size = [], 0

    def _columns(self) -> list[pa.Array]:
        rows = self._waiting
        offsets = np.cumsum([0, *(len(row.ids) for row in rows)], dtype=np.int64)
        values = np.concatenate([row.ids for row in rows]).astype(self._dtype, copy=False)
        return [
            pa.array([row.doc_id for row in rows], pa.binary(16)),
            pa.array([row.lang for row in rows], pa.string()),
            pa.array([row.source for row in rows], pa.string()),
            pa.array([row.cluster_size for row in rows], pa.int32()),
            pa.array([row.num_bytes for row in rows], pa.uint32()),
            pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values)),
        ]


def map_tokens(path: Path) -> list[TokenBatch]:
    """Maps one shard into memory; `values` are views of the file, nothing is read before it is used.

    Raises:
        StepError: If the file is damaged or is no token shard.
    """
    try:
        with pa.ipc.open_file(pa.memory_map(str(path))) as file:
            return [_view(file.get_batch(number)) for number in range(file.num_record_batches)]
    except (pa.ArrowInvalid, pa.ArrowException, KeyError, OSError) as error:
        raise StepError(
            f"The token shard {path.name} cannot be read: {error}.",
            where=str(path),
            fix="delete the artifact of the tokens step and run again; it is made anew",
        ) from error


def shard_files(folder: Path) -> Sequence[Path]:
    """The token shards of one split, in order."""
    return sorted(folder.glob("shard-*.arrow"))


def _view(batch: pa.RecordBatch) -> TokenBatch:
    tokens = batch.column("tokens")
    return TokenBatch(
        batch.column("doc_id"),
        batch.column("lang"),
        batch.column("source"),
        _numbers(batch.column("cluster_size")),
        _numbers(batch.column("num_bytes")),
        _numbers(tokens.offsets),
        _numbers(tokens.values),
    )


def _numbers(column: pa.Array) -> NDArray[Any]:
    """A column's memory as it is. Arrow's own `to_numpy` imports pandas, which takes half a second."""
    return np.from_dlpack(column)
