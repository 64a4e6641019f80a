"""Evaluating a pretrained model alone: bits per byte on validation documents, beside models that only count bytes.

The artifact:
    scores.json    {"base": {"bpb"}, "baselines": {"unigram", "order3", ...}}
    tables.json    the same as a table
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from components.context import Context, Metrics
from components.evaluate.config import EvaluateBaseConfig
from components.publish import publish_json
from components.score_table import ScoreTable, number, publish_tables

VERSION = 1
_NOTE = (
    "Bits per byte on the same validation documents, lower is better. unigram and order-n are byte models counted on "
    "the same training text."
)


def evaluate_base(
    ctx: Context, config: EvaluateBaseConfig, base: Path, tokens: Path, tokenizer: Path, documents: Path
) -> Metrics:
    """Scores a pretrained model.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        base: Artifact of `pretrain`.
        tokens: Artifact of `tokens`; its validation split is scored.
        tokenizer: Artifact of `tokenizer`: the model's must be the same.
        documents: The documents the tokens were made of, for the byte models.

    Returns:
        base_bpb, unigram_bpb, order<n>_bpb and val_bytes.

    Raises:
        StepError: If an input cannot be used, or the model has another tokenizer than the tokens.
    """
    from components.evaluate.base_measures import Work, measure

    ctx.progress(0, 2, "measurements", "bits per byte")
    works = [Work(name, config, base, tokens, tokenizer, documents) for name in ("base", "baselines")]
    found = dict(zip(("base", "baselines"), ctx.map(measure, works), strict=True))
    base_scores, baselines = (cast(dict[str, float], found[name]) for name in ("base", "baselines"))
    publish_json(ctx.output / "scores.json", {"base": dict(base_scores), "baselines": dict(baselines)})
    counted = {name: bits for name, bits in baselines.items() if not name.endswith("_bytes")}
    rows = tuple((name, number(bits)) for name, bits in {"base": base_scores["bpb"], **counted}.items())
    documents_scored = "all" if config.val_documents is None else str(config.val_documents)
    title = f"Validation text, {documents_scored} documents, {int(baselines['val_bytes']):,} bytes"
    publish_tables(ctx.output, [ScoreTable(title, ("model", "bits per byte"), rows, _NOTE)])
    ctx.progress(2, 2, "measurements")
    bits = {f"{name}_bpb": value for name, value in counted.items()}
    return {"base_bpb": base_scores["bpb"], **bits, "val_bytes": baselines["val_bytes"]}
