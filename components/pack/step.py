"""The pack step: makes the plan of training rows out of the lengths of documents; no id is read.

See `components.shards.plan` for the artifact. Every id of the training split is accounted for in `plan.json`:
tokens + repeated = used + cropped + tail, for every group and in total.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.context import Context, Metrics
from components.errors import StepError
from components.pack.config import PackConfig
from components.publish import publish_json, sha256_of

if TYPE_CHECKING:
    from components.pack.sequence import Sequence

VERSION = 1

SUMS = ("documents", "tokens", "repeated", "rows", "targets", "used", "cropped", "tail", "padding")


def pack(ctx: Context, config: PackConfig, tokens: Path) -> Metrics:
    """Packs the documents of the training split into rows.

    Args:
        ctx: The step's context.
        config: The step's settings.
        tokens: Tokens artifact.

    Returns:
        rows, groups, documents, tokens, repeated (ids that stand in an epoch again), used, cropped, tail (ids that fill
        no row), padding (places without an id) and targets (scored ids of an epoch).

    Raises:
        StepError: If the tokens are damaged, or nothing fills a row.
        Preempted: If asked to stop; windows packed so far are kept in scratch.
    """
    from components.pack.build import empty_folder
    from components.pack.sequence import write_sequences
    from components.shards.corpus import TokenSplit
    from components.shards.plan import ALL
    from components.shards.verify import META, read_meta
    from components.shardwise import work_folder

    split = TokenSplit.open(tokens, "train", full=True)
    meta = read_meta(tokens)
    names = [ALL] if config.group == "none" else sorted(meta["groups"][config.group]["train"])
    work = work_folder(ctx, VERSION, config, [tokens / META])
    sequences = write_sequences(split, config, names, empty_folder(work / "sequences"))
    groups = _write_groups(ctx, config, sequences, work)
    total = {name: sum(group[name] for group in groups) for name in SUMS}
    if not total["rows"]:
        raise StepError(
            f"{total['documents']} documents of {total['tokens']} tokens do not fill one row of {config.length + 1}.",
            where=f"pack.length={config.length}",
            fix="crawl more pages, or lower pack.length and pretrain.length",
        )
    about = {"strategy": config.strategy, "length": config.length, "group": config.group, "repeat": config.repeat}
    digest = sha256_of(tokens / META)
    publish_json(ctx.output / "plan.json", {**about, "tokens": digest, "groups": groups, "total": total})
    return {**{name: float(total[name]) for name in SUMS}, "groups": float(len(groups))}


def _write_groups(ctx: Context, config: PackConfig, sequences: Items[Sequence], work: Path) -> list[dict[str, Any]]:
    from components.pack.build import empty_folder, pack_window, windows_of, write_runs, write_table
    from components.shardwise import map_in_waves

    columns = empty_folder(work / "columns")
    groups: list[dict[str, Any]] = []
    for index, sequence in enumerate(sequences):
        if config.strategy == "concat":
            counts = write_runs(ctx.output, index, sequence, config.length, columns)
        else:
            folder = work / f"windows-{index:05d}"
            windows = windows_of(sequence, config.strategy, config.length, config.window, folder)
            parts = map_in_waves(ctx, pack_window, windows, config.windows_at_once, "windows")
            counts = write_table(ctx.output, index, windows, parts, columns)
        about = {"documents": sequence.documents, "tokens": sequence.tokens, "repeated": sequence.repeated}
        groups.append({"name": sequence.name, "file": index, **about, **counts})
    return groups
