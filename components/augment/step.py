"""The augment step: varied copies of the examples of a small labelled set, by easy data augmentation (Wei, Zou 2019).

For instructions the output is an instructions artifact again, for a file of {"text", "label"} JSON lines with the same
keys. Labels and the assistant's replies stay, every copy tells its parent and what was done, and what is held out for
evaluation is passed on untouched: a copy that reads like a held-out text is thrown away.

What becomes of an example depends on its id and the seed, not on its neighbours, so neither the order of rows nor the
number of workers matters. (The words that stand in for a file of synonyms are counted over all texts.) The set is
held in memory: this is for sets of thousands, not for a corpus.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.augment.config import OPERATIONS, AugmentConfig
from components.context import Context, Metrics, derive_seed
from components.errors import StepError
from components.publish import publish_json
from components.shardwise import map_in_waves

if TYPE_CHECKING:
    from components.augment.rows import Copy, Example, Rows
    from components.augment.words import Segment

VERSION = 1

_TRIES = 4
_WAVE = 16


def augment(
    ctx: Context,
    config: AugmentConfig,
    instructions: Path | None = None,
    file: Path | None = None,
    synonyms: Path | None = None,
) -> Metrics:
    """Writes the examples with varied copies of those for training.

    Args:
        ctx: The step's context.
        config: The step's settings.
        instructions: An instructions artifact to vary; or
        file: JSON lines with "text" and "label", see `rows`.
        synonyms: A file of synonyms, see `synonyms`; without it words that keep the same company stand in for them.

    Returns:
        read, repeated (rows left out because another one says the same), held_out, asked (copies asked for), made,
        unchanged (copies left out because they are the same as the example or another copy), short (left out because
        the text is), leaked (left out because they read like a held-out text), made_<operation>, synonyms (words that
        have some).

    Raises:
        StepError: Unless one of `instructions` and `file` is given, or if a row or the synonyms cannot be used.
        MachineError: If the segmenter's package is not installed.
    """
    from components.augment import rows as formats

    if (instructions is None) == (file is None):
        fix = "give either instructions or file"
        raise StepError("augment takes one set of examples.", "inputs instructions and file", fix)
    ctx.progress(0, None, "examples", "reading")
    if instructions is not None:
        conversations = formats.read_instructions(instructions)
        copies, metrics = _copies(ctx, config, conversations, synonyms)
        formats.write_instruction_copies(ctx.output, conversations, copies)
    else:
        assert file is not None
        labelled = formats.read_file(file)
        copies, metrics = _copies(ctx, config, labelled, synonyms)
        formats.write_file_copies(ctx.output, labelled, copies)
    return metrics


@dataclass(frozen=True)
class _Batch:
    """Some examples to vary, with all that it takes.

    Attributes:
        examples: They.
        config: The step's settings.
        synonyms: File of the synonyms and of the words known, as JSON.
        seed: Root of the copies' seeds.
        held_out: Texts that no copy may read like.
    """

    examples: Sequence[Example]
    config: AugmentConfig
    synonyms: Path
    seed: int
    held_out: frozenset[str]


def _copies(ctx: Context, config: AugmentConfig, rows: Rows, synonyms: Path | None) -> tuple[list[Copy], Metrics]:
    """The copies of all examples, and the step's metrics."""
    examples = rows.examples
    table, known = _synonyms(config, examples, synonyms)
    publish_json(ctx.scratch / "synonyms.json", {"synonyms": table, "known": known})
    held_out, seed, size = frozenset(rows.held_out), ctx.seed("copies"), config.rows_at_once
    batches = [
        _Batch(examples[start : start + size], config, ctx.scratch / "synonyms.json", seed, held_out)
        for start in range(0, len(examples), size)
    ]
    _check_ids(examples, config.copies)
    results = map_in_waves(ctx, _vary, batches, _WAVE, "batches")
    copies = [copy for some, _ in results for copy in some]
    outcomes = sum((counts for _, counts in results), Counter[str]())
    counted = {"read": len(examples) + rows.repeated, "repeated": rows.repeated, "held_out": len(held_out)}
    counted |= {"asked": config.copies * len(examples)}
    names = ("made", "unchanged", "short", "leaked", *(f"made_{operation}" for operation in OPERATIONS))
    told = {name: outcomes[name] for name in names}
    ctx.progress(len(examples), len(examples), "examples", f"{len(copies)} copies")
    return copies, {name: float(count) for name, count in (counted | told | {"synonyms": len(table)}).items()}


def _check_ids(examples: Sequence[Example], copies: int) -> None:
    """Refuses ids that copies will have: one of two rows of one id would be lost."""
    ids = {example.id for example in examples}
    taken = sorted(f"{one}+{number}" for one in ids for number in range(1, copies + 1) if f"{one}+{number}" in ids)
    if taken:
        fix = "vary the set before it was augmented, or give its rows other ids"
        raise StepError(f'The id "{taken[0]}" is that of a copy.', "the examples", fix)


def _synonyms(
    config: AugmentConfig, examples: Sequence[Example], path: Path | None
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Synonyms by word, without the most frequent words; and the words that the file knows, for cutting Chinese."""
    from components.augment.synonyms import frequent_words, neighbours, read_synonyms
    from components.augment.words import split

    table = read_synonyms(path) if path else {}
    known = sorted(table)
    segment = _segment(config, known)
    texts = [split(text, segment).words for example in examples for text in example.texts]
    keep = frequent_words(texts, config.keep_frequent)
    if path is None and config.neighbours and (config.replace_rate or config.insert_rate):
        table = neighbours(texts, config.neighbours, config.least_similarity, keep)
    return {word: others for word, others in sorted(table.items()) if word not in keep}, known


def _segment(config: AugmentConfig, known: Collection[str]) -> Segment:
    from components.augment.words import longest_match
    from components.tokenizer.pieces import jieba_words

    return jieba_words("augment.segmenter") if config.segmenter == "jieba" else longest_match(known)


def _vary(batch: _Batch) -> tuple[list[Copy], Counter[str]]:
    table = json.loads(batch.synonyms.read_text(encoding="utf-8"))
    synonyms = {word: tuple(others) for word, others in table["synonyms"].items()}
    segment = _segment(batch.config, table["known"])
    copies: list[Copy] = []
    outcomes: Counter[str] = Counter()
    for example in batch.examples:
        copies += _vary_one(batch, example, synonyms, segment, outcomes)
    return copies, outcomes


def _vary_one(
    batch: _Batch,
    example: Example,
    synonyms: dict[str, tuple[str, ...]],
    segment: Segment,
    outcomes: Counter[str],
) -> list[Copy]:
    """The copies of one example; counts what became of those asked for."""
    from components.augment.edits import varied
    from components.augment.rows import Copy
    from components.augment.words import split

    config = batch.config
    parts = [split(text, segment) for text in example.texts]
    able = [len(one.words) >= config.min_words for one in parts]
    if not any(able):
        outcomes["short"] += config.copies
        return []
    operations = [operation for operation in OPERATIONS if config.rate(operation)]
    random.Random(derive_seed(batch.seed, example.id)).shuffle(operations)
    copies: list[Copy] = []
    seen = {example.texts}
    for number in range(1, config.copies + 1):
        operation = operations[(number - 1) % len(operations)]
        draw = random.Random(derive_seed(batch.seed, example.id, number))
        for _ in range(_TRIES):
            texts = tuple(
                varied(one, operation, config.rate(operation), synonyms, draw).joined() if fits else one.joined()
                for one, fits in zip(parts, able, strict=True)
            )
            if texts not in seen:
                break
        outcome = (
            "unchanged" if texts in seen else "leaked" if batch.held_out & ({*texts} - {*example.texts}) else "made"
        )
        seen.add(texts)
        outcomes[outcome] += 1
        if outcome == "made":
            outcomes[f"made_{operation}"] += 1
            copies.append(Copy(example.id, number, operation, texts))
    return copies
