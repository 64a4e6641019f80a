"""What training an encoder-decoder on pairs is told, and what judging it is told."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, require_choice, runtime
from components.model.config import ModelConfig
from components.training.checks import refuse_sharing
from components.training.config import TrainingConfig

MODEL = ModelConfig(
    family="encoder-decoder",
    dim=128,
    num_layers=2,
    num_heads=4,
    num_kv_heads=4,
    ffn_dim=512,
    max_length=128,
    dropout=0.1,
)
TRAINING = TrainingConfig(
    steps=1200,
    batch_size=64,
    micro_batch=32,
    lr=2e-3,
    warmup_steps=120,
    weight_decay=0.01,
    beta2=0.98,
    eval_every=300,
    checkpoint_every=200,
)
TOKENIZATIONS = ("auto", "13a", "intl", "zh", "char")


@dataclass(frozen=True)
class TranslateConfig:
    """Settings of the `translate` step.

    Attributes:
        model: Shape of the model; its vocabulary is the tokenizer's where `model.vocab_size` is 0. Its `max_length` is
            also the longest source and the longest target in tokens; pairs that are longer are left out.
        training: Steps, batch, learning rate, engine. A sequence of `batch_size` is one pair.
        held_out_pairs: Held-out pairs whose loss is measured at each evaluation; null takes all of them.
        seed: Root of all randomness of this step: weights, order of the pairs.
    """

    model: ModelConfig = MODEL
    training: TrainingConfig = TRAINING
    held_out_pairs: int | None = 500
    seed: int = 17

    def __post_init__(self) -> None:
        refuse_sharing(self.training, "translate")
        family, rule = self.model.family, "reads no source"
        fix = "translate.model.family=encoder-decoder"
        require(family == "encoder-decoder", "translate.model.family", family, rule, fix)
        length, fix = self.model.max_length, "translate.model.max_length=128"
        require(length >= 4, "translate.model.max_length", length, "must be at least 4", fix)
        pairs, fix = self.held_out_pairs, "translate.held_out_pairs=null"
        require(pairs is None or pairs >= 1, "translate.held_out_pairs", pairs, "must be at least 1", fix)


@dataclass(frozen=True)
class EvaluateTranslationConfig:
    """Settings of the `evaluate_translation` step.

    Attributes:
        pairs: Held-out pairs that are translated; null takes all of them.
        num_beams: Beams of the search that greedy decoding is compared with.
        length_penalty: A beam's score is its log-probability divided by its length to this power.
        tokenize: How BLEU cuts texts: sacrebleu's "13a", "intl", "zh" or "char"; "auto" takes "zh" where three letters
            of ten of the references are Chinese, else "13a".
        samples: Pairs of each kind that are shown with what was written.
        micro_batch: Sources of one batch.
    """

    pairs: int | None = 1000
    num_beams: int = 4
    length_penalty: float = 1.0
    tokenize: str = "auto"
    samples: int = 3
    micro_batch: int = runtime(64)

    def __post_init__(self) -> None:
        require_choice("evaluate_translation.tokenize", self.tokenize, TOKENIZATIONS)
        pairs, fix = self.pairs, "evaluate_translation.pairs=null"
        require(pairs is None or pairs >= 1, "evaluate_translation.pairs", pairs, "must be at least 1", fix)
        for name, least in (("num_beams", 2), ("samples", 0), ("micro_batch", 1)):
            value, key = getattr(self, name), f"evaluate_translation.{name}"
            require(value >= least, key, value, f"must be at least {least}", f"{key}={max(4, least)}")
