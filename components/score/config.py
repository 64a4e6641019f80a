"""Settings of the step `score`: what is masked. What is measured has no settings."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, require_choice, runtime
from components.score.names import PII_KINDS


@dataclass(frozen=True)
class ScoreConfig:
    """What becomes of personal data in texts.

    Attributes:
        mask: Kinds of personal data that are replaced by placeholders ("[EMAIL]") and counted: email, phone, id, ip,
            card, iban, key. Empty leaves texts as they are.
        shards_at_once: Shards between two looks at the clock; more of them keep more workers busy.
    """

    mask: tuple[str, ...] = PII_KINDS
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        for kind in self.mask:
            require_choice("score.mask", kind, PII_KINDS)
        at_once, key = self.shards_at_once, "score.shards_at_once"
        require(at_once >= 1, key, at_once, "must be at least 1", f"{key}=16")
