"""Settings of the labelled step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require


@dataclass(frozen=True)
class LabelledConfig:
    """Which labelled texts to take.

    Attributes:
        max_train: At most so many texts to learn from, those of smallest hash; null takes all.
        held_out_fraction: Share of a file's texts to hold out, by the hash of the text. The sample has its own.
        validation_fraction: Share of the other texts that is not learned from but scored while a classifier learns, so
            that what is held out is read once, at the end.
    """

    max_train: int | None = None
    held_out_fraction: float = 0.1
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        most, rule, fix = self.max_train, "must be at least 2", "labelled.max_train=null"
        require(most is None or most >= 2, "labelled.max_train", most, rule, fix)
        for name in ("held_out_fraction", "validation_fraction"):
            fraction, key = getattr(self, name), f"labelled.{name}"
            require(0 < fraction < 1, key, fraction, "must lie between 0 and 1", f"{key}=0.1")
