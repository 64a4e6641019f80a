"""A scaling law from the corpus: every size on every number of tokens, a fit, and a larger model it is tried on.

The data path is that of every recipe and is shared by all trainings. Each of them is a `pretrain` step of its own with
its own cosine to the end, on one rank of the plain engine: so many small trainings run side by side, one a core, and
each is cached by itself. A sweep that is widened runs what is new and fits again.
"""

from __future__ import annotations

from dataclasses import replace

from components.errors import ConfigError
from components.pretrain.config import PretrainConfig
from components.pretrain.step import pretrain
from components.scaling.config import size_of
from components.scaling.step import scaling as fit_law
from pipelines.config import Settings
from pipelines.engine.step import Artifact, Recipe
from pipelines.recipes.data import Corpus, corpus

WARMUP_SHARE = 0.05
FFN_MULTIPLE = 8


def scaling(run: Recipe, settings: Settings) -> Artifact:
    """Declares the steps of the recipe; nothing runs here."""
    sweep, text = settings.scaling, corpus(run, settings)
    if settings.pretrain.objective != "next-token":
        raise ConfigError(
            f"A law is fitted to bits per byte, which pretrain.objective={settings.pretrain.objective} does not have.",
            "recipe=scaling",
            "set pretrain.objective=next-token",
        )
    held_out = _trained(run, settings, text, sweep.held_out, sweep.most_tokens)
    points = {
        f"{size}_{count}": _trained(run, settings, text, size, int(count))
        for size in sweep.sizes
        for count in sweep.tokens
        if (size, int(count)) != (sweep.held_out, sweep.most_tokens)
    }
    inputs = {f"run_{name}": artifact for name, artifact in points.items()}
    return run.step(fit_law, sweep, held_out=held_out, **inputs)  # type: ignore[arg-type]  # no option begins so


def _trained(run: Recipe, settings: Settings, text: Corpus, size: str, tokens: int) -> Artifact:
    return run.step(
        pretrain,
        pretrain_config(settings, size, tokens),
        name=f"pretrain_{size}_{tokens}",
        code="warn",
        gpus=settings.cluster.rank_gpus,
        tokens=text.tokens,
        tokenizer=text.vocabulary,
        rows=text.rows,
    )


def pretrain_config(settings: Settings, size: str, tokens: int) -> PretrainConfig:
    """The settings of one training of the sweep: those of `pretrain`, in this size and for so many tokens.

    Raises:
        ConfigError: If the tokens are fewer than two steps read.
    """
    sweep, base = settings.scaling, settings.pretrain
    dim, layers = size_of(size)
    heads = dim // sweep.head_width
    ffn_dim = max(1, round(sweep.ffn_ratio * dim / FFN_MULTIPLE)) * FFN_MULTIPLE
    shape = {"dim": dim, "num_layers": layers, "num_heads": heads, "num_kv_heads": heads, "ffn_dim": ffn_dim}
    step_tokens = base.training.batch_size * base.length
    steps = round(tokens / step_tokens)
    if steps < 2:
        raise ConfigError(
            f"scaling.tokens has {tokens}, but one step reads {step_tokens}.",
            "scaling.tokens",
            f"set it to {20 * step_tokens} or more, or lower pretrain.training.batch_size",
        )
    training = replace(
        base.training,
        steps=steps,
        lr=base.training.lr * (base.model.dim / dim) ** sweep.lr_exponent,
        warmup_steps=max(1, int(WARMUP_SHARE * steps)),
        eval_every=0,
        engine="plain",
        ranks=1,
        min_ranks=0,
    )
    model = replace(base.model, **shape, head_width=0)  # type: ignore[arg-type]
    return replace(base, model=model, training=training, samples=())
