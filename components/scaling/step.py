"""From the trainings of a sweep to a law: reads what each came to, fits, predicts the held-out one, and compares.

The artifact: `scaling.json` (points, constants with their intervals, predictions, the comparison), `scaling.md` (the
same to read), `tables.json` (for the report of the run). Losses are bits per byte of the validation split, so sweeps
with different tokenizers compare.
"""

from __future__ import annotations

from pathlib import Path

from components.context import Context, Metrics
from components.errors import StepError
from components.scaling.config import ScalingConfig

VERSION = 2
HELD_OUT = "held_out"


def scaling(ctx: Context, config: ScalingConfig, held_out: Path, **runs: Path) -> Metrics:
    """Fits a scaling law to a sweep of trainings and predicts the one that was held out.

    Args:
        ctx: What a step is given.
        config: Form of the law, resamplings, further targets.
        held_out: Pretrain artifact of the model that is only predicted.
        **runs: Pretrain artifacts of the sweep, by name.

    Returns:
        predicted and measured (bits per byte of the held-out model), error (relative, signed), low and high (of the
        interval), inside (1 if the measured one lies in it), points, fit_error (root mean square of the fit, relative),
        coverage (share of the sweep's own trainings inside the interval that the other sizes give) and the law's
        constants.

    Raises:
        StepError: If there are fewer points than the law has numbers, or a training left no loss.
    """
    from components.publish import publish_bytes, publish_json
    from components.scaling.law import num_constants
    from components.scaling.report import as_markdown, as_record, score_tables
    from components.scaling.sweep import fitted, read_point
    from components.score_table import publish_tables

    points = [read_point(name, path) for name, path in sorted(runs.items())]
    needed = num_constants(points, config.form)
    if len(points) <= needed:
        raise StepError(
            f"The sweep has {len(points)} trainings, a law of {needed} numbers needs more than that.",
            where="scaling.sizes, scaling.tokens",
            fix="add to scaling.sizes or scaling.tokens",
        )
    ctx.progress(0, config.draws, "resamplings", f"{len(points)} trainings")
    found = fitted(config, points, read_point(HELD_OUT, held_out))
    publish_json(ctx.output / "scaling.json", as_record(found))
    publish_tables(ctx.output, score_tables(found))
    publish_bytes(ctx.output / "scaling.md", as_markdown(found).encode())
    ctx.progress(config.draws, config.draws, "resamplings", f"predicted {found.prediction.value:.4f}")
    return found.metrics()
