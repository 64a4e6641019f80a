"""What a scaling sweep is told: which models are trained on how many tokens, which one is foretold, how it is fitted.

A size is written WIDTHxLAYERS ("64x4"), a number of tokens as a whole number ("300000"). Every size is trained on every
number of tokens, each time with a schedule of its own that ends there: the loss in the middle of a longer training is
higher than that of a training which ended at that point (2203.15556, section 3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.configuring import require, require_choice

FORMS = ("auto", "chinchilla", "compute")
_SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True)
class ScalingConfig:
    """Settings of the recipe `scaling` and of its step.

    Attributes:
        sizes: Models that the law is fitted to, as WIDTHxLAYERS.
        tokens: Tokens that each of them is trained on, one training for each number.
        held_out: The model that is predicted and then compared with its own training, larger than the others.
        held_out_tokens: Tokens that it is trained on; 0 takes the most of `tokens`.
        head_width: Width of a head in all of them: a model of width w has w / head_width heads.
        ffn_ratio: Width of the feed-forward layer as a multiple of the model's width, made a multiple of 8.
        lr_exponent: A model's learning rate is pretrain.training.lr * (pretrain.model.dim / its width) ** lr_exponent.
        form: "chinchilla" fits L(N, D) = E + A / N^a + B / D^b, "compute" L(C) = E + K / C^c over the arithmetic
            C = 6 N D; "auto" takes the first from 8 points on, with 3 sizes and 3 numbers of tokens.
        targets: Further models to predict, as PARAMETERS@TOKENS: "1e9@20e9".
        draws: Resamplings behind the intervals.
        confidence: Share of the resamplings that an interval holds.
        seed: Root of the randomness of resampling.
    """

    sizes: tuple[str, ...] = ("16x2", "32x2", "48x2", "64x2")
    tokens: tuple[str, ...] = ("262144", "524288", "1048576")
    held_out: str = "96x2"
    held_out_tokens: int = 0
    head_width: int = 16
    ffn_ratio: float = 2.75
    lr_exponent: float = 0.5
    form: str = "auto"
    targets: tuple[str, ...] = ()
    draws: int = 200
    confidence: float = 0.9
    seed: int = 17

    def __post_init__(self) -> None:
        require_choice("scaling.form", self.form, FORMS)
        self._check_sizes()
        for count in self.tokens:
            sound = count.isdecimal() and int(count) > 0
            require(sound, "scaling.tokens", count, "is no number of tokens", "'scaling.tokens=[262144,524288]'")
        points = len(set(self.sizes)) * len(set(self.tokens))
        key = "scaling.sizes"
        require(points >= 4, key, points, "times scaling.tokens are too few points", "at least 4 sizes times tokens")
        require(self.held_out_tokens >= 0, "scaling.held_out_tokens", self.held_out_tokens, "must not be negative", "0")
        for target in self.targets:
            parts = target.split("@")
            sound = len(parts) == 2 and all(_is_positive(part) for part in parts)
            require(sound, "scaling.targets", target, "is not PARAMETERS@TOKENS", "'scaling.targets=[1e9@20e9]'")
        require(self.draws >= 20, "scaling.draws", self.draws, "must be at least 20", "scaling.draws=200")
        sound = 0 < self.confidence < 1
        require(sound, "scaling.confidence", self.confidence, "must lie between 0 and 1", "scaling.confidence=0.9")
        require(self.ffn_ratio > 0, "scaling.ffn_ratio", self.ffn_ratio, "must be above 0", "scaling.ffn_ratio=2.75")

    def _check_sizes(self) -> None:
        width = self.head_width
        sound = width >= 2 and width % 2 == 0
        require(sound, "scaling.head_width", width, "must be even and at least 2", "scaling.head_width=16")
        for size in (*self.sizes, self.held_out):
            match = _SIZE.fullmatch(size)
            key = "scaling.held_out" if size == self.held_out else "scaling.sizes"
            require(match is not None, key, size, "is not WIDTHxLAYERS", f"{key} to sizes such as 64x4")
            dim, _ = size_of(size)
            require(dim % width == 0, key, size, f"has no whole heads of width {width}", f"{key}={width * 4}x4")
        require(self.held_out not in self.sizes, "scaling.held_out", self.held_out, "is fitted too", "a larger size")

    @property
    def most_tokens(self) -> int:
        """Tokens of the model that is held out."""
        return self.held_out_tokens or max(int(count) for count in self.tokens)


def size_of(size: str) -> tuple[int, int]:
    """Width and layers of "64x4"."""
    dim, _, layers = size.partition("x")
    return int(dim), int(layers)


def _is_positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
