"""Settings of the step `quality`: what it learns from, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, runtime


@dataclass(frozen=True)
class QualityConfig:
    """How the classifier is trained.

    Attributes:
        languages: Languages it learns from and scores; empty for all. Documents in others have no score (NaN), and no
            bound on quality drops them.
        good_sources: Sources whose documents are the good ones; empty takes documents that pass all rules by a margin.
        margin: How far a good document lies inside every rule: the threshold times this, or divided by it.
        max_examples: Most good and most bad texts it learns from; which ones is chosen by their hashes.
        corrupted_share: Share of the bad texts that are good ones with their words in another order or drawn by lot.
        feature_bits: Words and pairs of words are hashed to so many bits: 18 makes a model of one MiB.
        max_words: Words of a document that are looked at, from its beginning.
        epochs: Times each example is seen.
        learning_rate: Step size of AdaGrad.
        seed: Seed of the order of examples and of the corruptions.
        shards_at_once: Shards between two looks at the clock; more of them keep more workers busy.
    """

    languages: tuple[str, ...] = ("en", "zh")
    good_sources: tuple[str, ...] = ()
    margin: float = 1.5
    max_examples: int = 10_000
    corrupted_share: float = 0.5
    feature_bits: int = 18
    max_words: int = 1000
    epochs: int = 4
    learning_rate: float = 0.5
    seed: int = 0
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        for name, least, fix in (
            ("margin", 1.0, 1.5),
            ("max_examples", 100, 10_000),
            ("max_words", 10, 1000),
            ("epochs", 1, 4),
            ("shards_at_once", 1, 16),
        ):
            value, key = getattr(self, name), f"quality.{name}"
            require(value >= least, key, value, f"must be at least {least}", f"{key}={fix}")
        share, key = self.corrupted_share, "quality.corrupted_share"
        require(0 <= share <= 1, key, share, "must be a share, 0 to 1", f"{key}=0.5")
        bits, key = self.feature_bits, "quality.feature_bits"
        require(8 <= bits <= 24, key, bits, "must be 8 to 24", f"{key}=18")
        rate, key = self.learning_rate, "quality.learning_rate"
        require(rate > 0, key, rate, "must be above 0", f"{key}=0.5")
