"""The tokens step: documents to memory-mapped shards of ids, split by document into training and validation.

Work goes shard by shard in the order and under the names of the documents artifact, so the bytes depend on documents
and tokenizer alone. Shards are made in the scratch folder and moved into the artifact at the end: after a stop or a
crash only the missing ones are encoded.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.errors import Preempted
from components.publish import publish_json
from components.shards.config import TokensConfig

if TYPE_CHECKING:
    from components.shards.encode import Counts, Encoding

VERSION = 1


def tokens(ctx: Context, config: TokensConfig, documents: Path, tokenizer: Path) -> Metrics:
    """Encodes the corpus.

    Args:
        ctx: The step's context.
        config: The step's settings.
        documents: Documents artifact.
        tokenizer: Tokenizer artifact.

    Returns:
        train_tokens, val_tokens, train_documents, val_documents and bytes_per_token (text bytes per id, `<|bos|>` and
        `<|eos|>` included).

    Raises:
        StepError: If there are too few documents to split.
        Preempted: If asked to stop; shards made so far are kept in scratch.
    """
    from components.documents import shard_paths
    from components.shards.encode import Encoding, read_counts
    from components.shards.format import token_dtype
    from components.tokenizer.load import TextTokenizer

    paths = shard_paths(documents)
    key = ctx.seed("split")
    encoding = Encoding(tokenizer, ctx.scratch / "shards", key, _limit(paths, config, key))
    _encode_missing(ctx, encoding, paths, config.shards_at_once)
    counts = read_counts(encoding.output, paths)
    for split in counts:
        (ctx.output / split).mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.move(encoding.output / split / path.name, ctx.output / split / path.name)
    vocab_size = TextTokenizer.from_folder(tokenizer).vocab_size
    publish_json(ctx.output / "meta.json", {"vocab_size": vocab_size, "dtype": token_dtype(vocab_size), **counts})
    return _metrics(counts)


def _limit(paths: Sequence[Path], config: TokensConfig, key: int) -> int:
    from components.documents import read_doc_ids
    from components.shards.split import split_limit

    doc_ids = (doc_id for path in paths for doc_id in read_doc_ids(path))
    return split_limit(doc_ids, key, config.val_fraction, config.min_val_documents)


def _encode_missing(ctx: Context, encoding: Encoding, paths: Sequence[Path], at_once: int) -> None:
    from components.shards.encode import encode_shard, is_done

    missing = [path for path in paths if not is_done(encoding.output, path)]
    for start in range(0, len(missing), at_once):
        done = len(paths) - len(missing) + start
        ctx.progress(done, len(paths), "shards")
        if ctx.should_stop():
            raise Preempted(
                f"Encoding stopped after {done} of {len(paths)} shards, which are kept.",
                where="tokens",
                fix="run again; only the missing shards are encoded",
            )
        ctx.map(partial(encode_shard, encoding), missing[start : start + at_once])
    ctx.progress(len(paths), len(paths), "shards")


def _metrics(counts: Counts) -> Metrics:
    total_bytes, total_tokens = (sum(split[name] for split in counts.values()) for name in ("bytes", "tokens"))
    sizes = {f"{split}_{name}": float(counts[split][name]) for split in counts for name in ("tokens", "documents")}
    return {**sizes, "bytes_per_token": total_bytes / total_tokens}
