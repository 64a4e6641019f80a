"""What pretraining is told: the model's shape, how it is trained, how long a row is, what it is asked to write."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.configuring import added, require, require_choice, runtime
from components.model.config import ENCODERS, ModelConfig
from components.objectives.counts import num_gaps
from components.shards.config import MixtureConfig
from components.training.config import TrainingConfig
from components.training.privacy import refuse_private

OBJECTIVES = {"next-token": ("llama", "gpt2"), "masked": ENCODERS, "span": ("encoder-decoder",)}
"""Each objective with the families of `model.family` that can learn it."""
WHOLE_WORDS = ("none", "pieces", "jieba")
PROMPTS = ("Hello, how are you", "I think that", "The best thing about", "你好", "今天", "中国")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of the `pretrain` step.

    Attributes:
        model: Shape of the model; its vocabulary is the tokenizer's where `model.vocab_size` is 0.
        training: Steps, batch, learning rate, engine. A sequence of `batch_size` is one row of `length` tokens.
        init: Folder of a model to go on from, ours or any that transformers loads, instead of weights drawn anew;
            `model` is not used then.
        resume: `init` is a checkpoint of another run (a folder `step-...`), and training goes on from its step with its
            optimizer: for a mixture that changes from there on, or more steps. What was read before stays as it was.
        length: Tokens the model sees at once.
        objective: "next-token", "masked" (BERT's: hidden tokens are said again, for model.family=bert or eurobert) or
            "span" (T5's: spans taken out of a row are written, for model.family=encoder-decoder).
        mask_fraction: "masked" and "span": share of the tokens that are hidden.
        whole_words: "masked": hide words as a whole. "none" hides tokens one by one, "pieces" whole English words and
            Chinese characters, "jieba" Chinese words as that package finds them.
        span_length: "span": mean length of a span in tokens.
        document_mask: Tokens see only their own document of a row, and count their positions from its beginning. Not
            for "span".
        mixture: In what proportion the groups of `pack.group` are read; without weights each row comes once an epoch.
        eval_documents: Validation documents that are scored; unset scores all of them.
        samples: Beginnings of text the model is asked to continue at every evaluation.
        sample_tokens: Longest continuation, in tokens; 0 writes none.
        sample_temperature: Of those continuations; 0 takes the likeliest token.
        verify: "full" hashes every token shard before the first step (under 1 s per GB); "quick" looks at names, sizes
            and footers.
        loader_threads: Threads of each rank that read the batches of the next steps; 0 reads a batch when it is due.
        seed: Root of all randomness of this step: weights, order of rows, samples.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    length: int = 256
    init: str | None = added(None)
    resume: bool = added(False)
    objective: str = added("next-token")
    mask_fraction: float = added(0.15)
    whole_words: str = added("none")
    span_length: float = added(3.0)
    document_mask: bool = added(False)
    mixture: MixtureConfig = added(MixtureConfig())  # noqa: RUF009  (it is frozen)
    eval_documents: int | None = None
    samples: tuple[str, ...] = PROMPTS
    sample_tokens: int = 48
    sample_temperature: float = 0.8
    verify: str = runtime("full")
    loader_threads: int = runtime(0)
    seed: int = 17

    def __post_init__(self) -> None:
        require(self.length >= 2, "pretrain.length", self.length, "must be at least 2", "pretrain.length=256")
        if self.init is None:
            self._check_model()
            key = "pretrain.resume"
            require(
                not self.resume, key, self.resume, "needs pretrain.init, the checkpoint to go on from", f"{key}=false"
            )
        require(
            self.eval_documents is None or self.eval_documents >= 1,
            "pretrain.eval_documents",
            self.eval_documents,
            "must be at least 1",
            "pretrain.eval_documents=null",
        )
        self._check_objective()
        self._check_privacy()
        require_choice("pretrain.verify", self.verify, ("full", "quick"))
        for name in ("sample_tokens", "sample_temperature", "loader_threads"):
            value = getattr(self, name)
            require(value >= 0, f"pretrain.{name}", value, "must be 0 or more", f"pretrain.{name}=1")

    @property
    def num_masks(self) -> int:
        """Masks that the tokenizer must have for the objective: one, or one for each span of a row."""
        if self.objective == "next-token":
            return 0
        return 1 if self.objective == "masked" else num_gaps(self.length, self.mask_fraction, self.span_length)[1]

    @property
    def hiding(self) -> dict[str, object]:
        """The settings, but for the seed, that decide what the objective hides of a row; none for the next token."""
        names = {"next-token": (), "masked": ("mask_fraction", "whole_words"), "span": ("mask_fraction", "span_length")}
        return {name: getattr(self, name) for name in names[self.objective]}

    def _check_model(self) -> None:
        """What must hold between the rows and a model that is made here; of one that goes on its folder tells."""
        require_choice("pretrain.objective", self.objective, tuple(OBJECTIVES))
        require(
            self.length <= self.model.max_length,
            "pretrain.length",
            self.length,
            f"must be at most pretrain.model.max_length={self.model.max_length}",
            f"pretrain.length={self.model.max_length}",
        )
        require(
            self.sample_tokens < self.model.max_length,
            "pretrain.sample_tokens",
            self.sample_tokens,
            f"must be below pretrain.model.max_length={self.model.max_length}",
            "pretrain.sample_tokens=48",
        )
        families, family = OBJECTIVES[self.objective], self.model.family
        fitting = next(name for name, able in OBJECTIVES.items() if family in able)
        require(
            family in families,
            "pretrain.objective",
            self.objective,
            f"cannot be learned by pretrain.model.family={family}: it is for {' and '.join(families)}",
            f"pretrain.objective={fitting}, or pretrain.model.family={families[0]}",
        )

    def _check_objective(self) -> None:
        require_choice("pretrain.objective", self.objective, tuple(OBJECTIVES))
        require_choice("pretrain.whole_words", self.whole_words, WHOLE_WORDS)
        fraction, rule = self.mask_fraction, "must lie between 0 and 1"
        require(0 < fraction < 1, "pretrain.mask_fraction", fraction, rule, "pretrain.mask_fraction=0.15")
        rule, fix = "must be at least 1", "pretrain.span_length=3"
        require(self.span_length >= 1, "pretrain.span_length", self.span_length, rule, fix)
        whole, rule = self.whole_words, "goes with pretrain.objective=masked alone"
        fits = whole == "none" or self.objective == "masked"
        require(fits, "pretrain.whole_words", whole, rule, "pretrain.whole_words=none")
        fits, rule = not self.document_mask or self.objective != "span", "does not go with pretrain.objective=span"
        require(fits, "pretrain.document_mask", self.document_mask, rule, "pretrain.document_mask=false")

    def _check_privacy(self) -> None:
        model = self.model
        relative, mixed = model.positions == "t5", bool(self.mixture.weights or self.mixture.changes)
        against = {
            f"needs pretrain.objective=next-token, and it is {self.objective}": self.objective != "next-token",
            "does not go with pretrain.model.num_experts, which mix rows": bool(model.num_experts),
            "does not go with pretrain.model.positions=t5, whose table is one for all rows": relative,
            "does not go with pretrain.model.num_token_types, one for all rows": bool(model.num_token_types),
            "does not go with pretrain.mixture: every row must have the same chance": mixed,
            "does not go with pretrain.resume: what the other run's steps told is not counted": self.resume,
        }
        for why, holds in against.items():
            if holds:
                refuse_private(self.training.privacy, why)
