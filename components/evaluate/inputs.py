"""The artifacts that evaluation reads, as one value that travels to the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STAGES = ("base", "sft", "ppo")


@dataclass(frozen=True)
class Inputs:
    """Artifact folders by what they hold; see the step for each."""

    base: Path
    sft: Path
    reward: Path
    ppo: Path
    tokens: Path
    tokenizer: Path
    documents: Path
    instructions: Path
    preferences: Path

    def model(self, stage: str) -> Path:
        """Model folder of "base", "sft", "ppo" or "reward"."""
        folder: Path = getattr(self, stage)
        return folder / "model"
