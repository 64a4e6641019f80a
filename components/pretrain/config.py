"""What pretraining is told: the model's shape, how it is trained, how long a row is, what it is asked to write."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.configuring import added, require, require_choice, runtime
from components.model.config import ModelConfig
from components.shards.config import MixtureConfig
from components.training.config import TrainingConfig

PROMPTS = ("Hello, how are you", "I think that", "The best thing about", "你好", "今天", "中国")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of the `pretrain` step.

    Attributes:
        model: Shape of the model; its vocabulary is the tokenizer's where `model.vocab_size` is 0.
        training: Steps, batch, learning rate, engine. A sequence of `batch_size` is one row of `length` tokens.
        length: Tokens the model sees at once.
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
    mixture: MixtureConfig = added(MixtureConfig())  # noqa: RUF009  (it is frozen)
    eval_documents: int | None = None
    samples: tuple[str, ...] = PROMPTS
    sample_tokens: int = 48
    sample_temperature: float = 0.8
    verify: str = runtime("full")
    loader_threads: int = runtime(0)
    seed: int = 17

    def __post_init__(self) -> None:
        require(
            2 <= self.length <= self.model.max_length,
            "pretrain.length",
            self.length,
            f"must be at least 2 and at most pretrain.model.max_length={self.model.max_length}",
            f"pretrain.length={self.model.max_length}",
        )
        require(
            self.eval_documents is None or self.eval_documents >= 1,
            "pretrain.eval_documents",
            self.eval_documents,
            "must be at least 1",
            "pretrain.eval_documents=null",
        )
        require_choice("pretrain.verify", self.verify, ("full", "quick"))
        for name in ("sample_tokens", "sample_temperature", "loader_threads"):
            value = getattr(self, name)
            require(value >= 0, f"pretrain.{name}", value, "must be 0 or more", f"pretrain.{name}=1")
        require(
            self.sample_tokens < self.model.max_length,
            "pretrain.sample_tokens",
            self.sample_tokens,
            f"must be below pretrain.model.max_length={self.model.max_length}",
            "pretrain.sample_tokens=48",
        )
