"""Settings of the tokens step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, runtime


@dataclass(frozen=True)
class TokensConfig:
    """How documents become token shards.

    Attributes:
        val_fraction: Share of the documents that go to validation, each by the hash of its id.
        min_val_documents: Validation gets at least so many, whatever the share.
        seed: Chooses which documents those are.
        shards_at_once: Shards handed out between two looks at whether to stop.
    """

    val_fraction: float = 0.03
    min_val_documents: int = 8
    seed: int = 17
    shards_at_once: int = runtime(64)

    def __post_init__(self) -> None:
        fraction = self.val_fraction
        require(0 <= fraction < 1, "tokens.val_fraction", fraction, "must be in [0, 1)", "tokens.val_fraction=0.03")
        least = self.min_val_documents
        require(least >= 1, "tokens.min_val_documents", least, "must be at least 1", "tokens.min_val_documents=8")
        at_once = self.shards_at_once
        require(at_once >= 1, "tokens.shards_at_once", at_once, "must be at least 1", "tokens.shards_at_once=64")
