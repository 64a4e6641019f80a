"""What evaluation is told: how much of each held-out set is looked at, and how replies are sampled."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import added, require, runtime


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of the `evaluate` step.

    Attributes:
        length: Tokens a model sees at once when its bits per byte are measured, as in pretraining; and the longest
            dialogue, as in SFT (a longer one is cut after the last reply that fits).
        val_documents: Validation documents that are scored, by models and byte models alike; unset scores all.
        byte_order: Bytes of context of the stronger byte model.
        dialogues: Held-out dialogues whose replies are scored, at most.
        pairs: Held-out preference pairs that the reward model is asked about, at most.
        prompts: Held-out prompts that every model answers, at most.
        max_prompt_tokens: Longer prompts are left out.
        max_new_tokens: Longest reply.
        temperature: Of sampling.
        samples_per_language: Prompts shown with the replies of all models, for each language.
        micro_batch: Sequences of one forward pass.
        document_mask: Bits per byte: tokens see only their own document, as in pretraining (`pretrain.document_mask`).
        seed: Of sampling and of the choice of prompts.
    """

    length: int = 256
    val_documents: int | None = 64
    byte_order: int = 3
    dialogues: int = 400
    pairs: int = 800
    prompts: int = 192
    max_prompt_tokens: int = 64
    max_new_tokens: int = 40
    temperature: float = 1.0
    samples_per_language: int = 4
    micro_batch: int = runtime(16)
    document_mask: bool = added(False)
    seed: int = 17

    def __post_init__(self) -> None:
        for name, least in (
            ("length", 2),
            ("dialogues", 1),
            ("pairs", 2),
            ("prompts", 2),
            ("max_prompt_tokens", 1),
            ("max_new_tokens", 1),
            ("samples_per_language", 0),
            ("micro_batch", 1),
        ):
            value = getattr(self, name)
            require(value >= least, f"evaluate.{name}", value, f"must be at least {least}", f"evaluate.{name}=64")
        documents = self.val_documents
        require(
            documents is None or documents >= 1,
            "evaluate.val_documents",
            documents,
            "must be at least 1",
            "evaluate.val_documents=null",
        )
        require(
            1 <= self.byte_order <= 6, "evaluate.byte_order", self.byte_order, "must be 1 to 6", "evaluate.byte_order=3"
        )
        require(
            self.temperature > 0,
            "evaluate.temperature",
            self.temperature,
            "must be above 0: the KL is that of the sampled distribution",
            "evaluate.temperature=1.0",
        )


@dataclass(frozen=True)
class EvaluateBaseConfig:
    """Settings of the `evaluate_base` step.

    Attributes:
        length: Tokens the model sees at once, as in pretraining.
        document_mask: Tokens see only their own document, as in pretraining.
        val_documents: Validation documents that are scored, by model and byte models alike; unset scores all.
        byte_order: Bytes of context of the stronger byte model.
        micro_batch: Sequences of one forward pass.
    """

    length: int = 256
    document_mask: bool = False
    val_documents: int | None = None
    byte_order: int = 3
    micro_batch: int = runtime(16)

    def __post_init__(self) -> None:
        for name, least in (("length", 2), ("micro_batch", 1)):
            value, key = getattr(self, name), f"evaluate_base.{name}"
            require(value >= least, key, value, f"must be at least {least}", f"{key}=256")
        documents, fix = self.val_documents, "evaluate_base.val_documents=null"
        fits = documents is None or documents >= 1
        require(fits, "evaluate_base.val_documents", documents, "must be at least 1", fix)
        order, fix = self.byte_order, "evaluate_base.byte_order=3"
        require(1 <= order <= 6, "evaluate_base.byte_order", order, "must be 1 to 6", fix)
