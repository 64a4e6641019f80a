"""The layout of token shards, shared by the step that writes them and the loader that maps them.

Raw (uncompressed) Arrow IPC, one record batch a shard, so that the ids of all its documents lie in one buffer that can
be used straight from the page cache. Measured in the prototype that led here: random windows from such files are read
three times faster than through a plain memory-mapped array, at 0.6 % more disk, and the documents stay visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.errors import StepError
from components.publish import publish


@dataclass(frozen=True)
class TokenShard:
    """The documents of one shard as ids; Arrow arrays stay in the file until somebody asks.

    Attributes:
        doc_ids: Arrow array of 16 bytes each, ascending.
        langs: Arrow array of language codes.
        num_bytes: UTF-8 bytes of each document's text, uint32 [documents].
        offsets: Document i is `values[offsets[i]:offsets[i + 1]]`; int64 [documents + 1].
        values: Ids of all documents one after the other, `[bos] + text + [eos]` each; uint16 or uint32.
    """

    doc_ids: pa.Array
    langs: pa.Array
    num_bytes: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    values: NDArray[np.uint16] | NDArray[np.uint32]


def token_dtype(vocab_size: int) -> str:
    """The narrowest type that holds every id: "uint16" up to 65,536 of them, else "uint32"."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def write_tokens(path: Path, shard: TokenShard) -> None:
    """Writes one shard; the same shard always gives the same bytes."""
    columns = {
        "doc_id": shard.doc_ids,
        "lang": shard.langs,
        "tokens": pa.LargeListArray.from_arrays(pa.array(shard.offsets), pa.array(shard.values)),
        "num_bytes": pa.array(shard.num_bytes),
    }
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    with (
        publish(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as out,
    ):
        out.write_batch(batch)


def map_tokens(path: Path) -> TokenShard:
    """Maps one shard into memory; `values` is a view of the file, nothing is read before it is used.

    Raises:
        StepError: If the file is damaged or is no token shard.
    """
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        tokens = batch.column("tokens")
        shard = TokenShard(
            batch.column("doc_id"),
            batch.column("lang"),
            batch.column("num_bytes").to_numpy(),
            tokens.offsets.to_numpy(),
            tokens.values.to_numpy(),
        )
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise StepError(
            f"A token shard cannot be read: {error}.",
            where=str(path),
            fix="delete the artifact of the tokens step and run again; it is made anew",
        ) from error
    return shard
