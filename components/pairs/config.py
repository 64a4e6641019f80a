"""Settings of the pairs step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require


@dataclass(frozen=True)
class PairsConfig:
    """Which pairs to take.

    Attributes:
        num_pairs: Pairs that the sample makes, before repetitions are taken out; a file is taken whole.
        held_out_fraction: Share of the targets to hold out, by the hash of the target: neither the source nor the
            target of a held-out pair is in training.
        max_chars: Pairs with a longer source or target are left out.
        seed: Of the numbers, dates and names that the sample draws.
    """

    num_pairs: int = 16000
    held_out_fraction: float = 0.05
    max_chars: int = 2000
    seed: int = 17

    def __post_init__(self) -> None:
        count = self.num_pairs
        require(count >= 100, "pairs.num_pairs", count, "must be at least 100", "pairs.num_pairs=16000")
        fraction, rule = self.held_out_fraction, "must lie between 0 and 1"
        require(0 < fraction < 1, "pairs.held_out_fraction", fraction, rule, "pairs.held_out_fraction=0.05")
        require(self.max_chars >= 1, "pairs.max_chars", self.max_chars, "must be at least 1", "pairs.max_chars=2000")
