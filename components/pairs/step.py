"""The pairs step: sources and targets, each once, a part of them held out.

The artifact:
    train.arrow, held_out.arrow     pairs, see `table`
    documents/                      both sides of the training pairs, for the tokenizer
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from components.context import Context, Metrics
from components.errors import StepError
from components.pairs.config import PairsConfig

VERSION = 1


def pairs(ctx: Context, config: PairsConfig, file: Path | None = None) -> Metrics:
    """Writes the pairs to train on and to score.

    Args:
        ctx: The step's context.
        config: The step's settings.
        file: JSON lines with "source" and "target"; None makes English-Chinese phrases out of Unicode's locale data.

    Returns:
        pairs_train, pairs_held_out, repeated and too_long (left out), source_chars and target_chars (means of the
        training pairs), and the training pairs of the six most frequent kinds.

    Raises:
        StepError: If a row of the file cannot be used (names file and line), or there are fewer than two targets.
        MachineError: If the sample's package is not installed.
    """
    from components.pairs.files import file_pairs
    from components.pairs.sample import sample_pairs
    from components.pairs.table import split_pairs, write_documents, write_pairs

    ctx.progress(0, None, "pairs", "reading")
    read = sample_pairs(config.num_pairs, ctx.seed("phrases")) if file is None else file_pairs(file)
    split = split_pairs(read, config.held_out_fraction, config.max_chars)
    if not split.train or not split.held_out:
        count = len(split.train) + len(split.held_out)
        raise StepError(
            f"There are {count} usable pairs; two with different targets are the least, to learn from and to score.",
            where=str(file),
            fix=f"add pairs, or raise pairs.max_chars={config.max_chars}: {split.too_long} are longer",
        )
    write_pairs(ctx.output / "train.arrow", split.train)
    write_pairs(ctx.output / "held_out.arrow", split.held_out)
    write_documents(ctx.output, split.train)
    count = len(split.train) + len(split.held_out)
    ctx.progress(count, count, "pairs", f"{len(split.held_out)} held out")
    kinds = Counter(pair.kind for pair in split.train).most_common(6)
    return {
        "pairs_train": float(len(split.train)),
        "pairs_held_out": float(len(split.held_out)),
        "repeated": float(split.repeated),
        "too_long": float(split.too_long),
        "source_chars": sum(len(pair.source) for pair in split.train) / len(split.train),
        "target_chars": sum(len(pair.target) for pair in split.train) / len(split.train),
        **{f"pairs_{kind}": float(number) for kind, number in kinds},
    }
