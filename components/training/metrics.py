"""What training counts: mean loss per unit over a window, tokens per second, bits per byte."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Mean:
    """A running mean of sums over units, such as nats over tokens. Plain numbers, so that a checkpoint can hold it."""

    total: float = 0.0
    units: float = 0.0

    def add(self, total: float, units: float) -> None:
        """Adds a sum over some units."""
        self.total += total
        self.units += units

    def take(self) -> float:
        """The mean so far (NaN if nothing was added); starts anew."""
        mean = self.total / self.units if self.units else math.nan
        self.total = self.units = 0.0
        return mean


def bits_per_byte(nats: float, num_bytes: float) -> float:
    """Bits per byte of text out of a sum of cross-entropies in nats: comparable over tokenizers.

    Args:
        nats: Sum of -ln p over the scored tokens.
        num_bytes: UTF-8 bytes of the text those tokens spell.
    """
    return nats / math.log(2) / num_bytes


def describe(loss: float, lr: float, skipped: int, evaluation: dict[str, float]) -> str:
    """The note of the live table: "loss 3.41  bpb 1.62  lr 9.2e-04  skipped 0"."""
    parts = [f"loss {loss:.3f}"]
    for name, label in (("val_bpb", "bpb"), ("val_loss", "val"), ("val_accuracy", "accuracy")):
        if name in evaluation:
            parts.append(f"{label} {evaluation[name]:.3f}")
    return "  ".join([*parts, f"lr {lr:.1e}", f"skipped {skipped}"])
