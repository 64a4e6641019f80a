"""The instructions step: the conversations that SFT learns from, out of the sample's texts or a file of your own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from components.context import Context, Metrics
from components.instructions.config import InstructionsConfig

VERSION = 1


def instructions(ctx: Context, config: InstructionsConfig, file: Path | None = None) -> Metrics:
    """Writes `train.arrow` and `held_out.arrow`.

    Args:
        ctx: The step's context.
        config: The step's settings.
        file: JSON lines with "messages"; None takes the sample's conversations and reviews.

    Returns:
        train, held_out, repeated (rows of the file left out as repetitions), and the training rows of each source.

    Raises:
        StepError: If a row of the file cannot be used; names file and line.
        MachineError: If the sample's packages are not installed.
    """
    from components.instructions.files import file_instructions
    from components.instructions.sample import sample_instructions
    from components.posttrain.dialogues import write_instructions

    ctx.progress(0, None, "dialogues", "reading")
    repeated = 0
    if file is None:
        train, held_out = sample_instructions(config)
    else:
        train, held_out, repeated = file_instructions(file, config.held_out_fraction)
    write_instructions(ctx.output / "train.arrow", train)
    write_instructions(ctx.output / "held_out.arrow", held_out)
    ctx.progress(len(train) + len(held_out), len(train) + len(held_out), "dialogues", f"{len(held_out)} held out")
    sources = Counter(row.source for row in train).most_common(8)
    counts = {"train": len(train), "held_out": len(held_out), "repeated": repeated}
    return {name: float(count) for name, count in (*counts.items(), *((f"train_{name}", n) for name, n in sources))}
