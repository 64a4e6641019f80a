"""The tokens step: documents to memory-mapped shards of ids, split by cluster into training, validation and test.

Work goes shard by shard in the order and under the names of the documents artifact, so the bytes depend on documents
and tokenizer alone. Shards are made in the scratch folder and moved into the artifact at the end: after a stop or a
crash only the missing ones are encoded.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.context import Context, Metrics
from components.errors import Preempted
from components.publish import publish_json, sha256_of
from components.shards.config import TokensConfig

if TYPE_CHECKING:
    from components.shards.encode import Encoding
    from components.shards.split import Limits

VERSION = 2


def tokens(ctx: Context, config: TokensConfig, documents: Path, tokenizer: Path) -> Metrics:
    """Encodes the corpus.

    Args:
        ctx: The step's context.
        config: The step's settings.
        documents: Documents artifact.
        tokenizer: Tokenizer artifact.

    Returns:
        train_tokens, val_tokens, test_tokens, train_documents, val_documents, test_documents and bytes_per_token (text
        bytes per id, `<|bos|>` and `<|eos|>` included).

    Raises:
        StepError: If there are too few documents to split.
        Preempted: If asked to stop; shards made so far are kept in scratch.
    """
    from components.documents import shard_paths
    from components.shards.encode import Encoding, read_meta
    from components.shards.format import FORMAT, SPLITS, token_dtype
    from components.shardwise import work_folder
    from components.tokenizer.load import FILE_NAME, TextTokenizer

    paths = shard_paths(documents)
    work = work_folder(ctx, VERSION, config, [*paths, tokenizer / FILE_NAME])
    encoding = Encoding(tokenizer, work, _limits(ctx, paths, config))
    _encode_missing(ctx, encoding, paths, config.shards_at_once)
    meta = read_meta(encoding.output, paths)
    for split in SPLITS:
        (ctx.output / split).mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.move(encoding.output / split / path.name, ctx.output / split / path.name)
    vocab_size = TextTokenizer.from_folder(tokenizer).vocab_size
    about = {"format": FORMAT, "vocab_size": vocab_size, "dtype": token_dtype(vocab_size)}
    publish_json(ctx.output / "meta.json", {**about, "tokenizer": sha256_of(tokenizer / FILE_NAME), **meta})
    return _metrics(meta)


def _limits(ctx: Context, paths: Sequence[Path], config: TokensConfig) -> Limits:
    from components.shards.split import find_limits

    return find_limits(
        lambda head_of: ctx.map(head_of, paths),
        ctx.seed("split"),
        (config.val_fraction, config.test_fraction),
        (config.min_val_documents, config.min_test_documents),
    )


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


def _metrics(meta: Mapping[str, Any]) -> Metrics:
    from components.shards.format import SPLITS

    total_bytes, total_tokens = (sum(meta[split][name] for split in SPLITS) for name in ("bytes", "tokens"))
    sizes = {f"{split}_{name}": float(meta[split][name]) for split in SPLITS for name in ("tokens", "documents")}
    return {**sizes, "bytes_per_token": total_bytes / total_tokens}
