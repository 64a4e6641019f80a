"""Settings of the augment step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, require_choice, runtime
from components.tokenizer.config import SEGMENTERS

OPERATIONS = ("replace", "insert", "swap", "delete")


@dataclass(frozen=True)
class AugmentConfig:
    """How training examples are varied. A rate of 0 switches an operation off.

    Attributes:
        copies: Varied copies of each example; each is made by one operation, in turn.
        replace_rate: Share of the words replaced by a synonym.
        insert_rate: Synonyms of words put in anywhere, as a share of the words.
        swap_rate: Pairs of words that change places, as a share of the words.
        delete_rate: Chance of each word to be left out.
        min_words: Texts with fewer words are not varied.
        keep_frequent: So many of the most frequent words are never replaced, nor are their synonyms inserted: they
            stand for a list of stop words.
        neighbours: Without a file of synonyms, so many words that occur between the same words stand in for them; 0
            takes none, and replaces and inserts nothing. Such words are of one kind more than of one meaning ("good",
            "bad"): where the label hangs on the meaning, give a file.
        least_similarity: Cosine that a neighbour must have at least.
        segmenter: Words of Chinese: "none" takes the words of the synonyms by longest match and single characters
            elsewhere, "jieba" that package's (`pip install 'headwater[jieba]'`).
        seed: Root of what is drawn.
        rows_at_once: Examples in one task.
    """

    copies: int = 4
    replace_rate: float = 0.1
    insert_rate: float = 0.1
    swap_rate: float = 0.1
    delete_rate: float = 0.1
    min_words: int = 3
    keep_frequent: int = 50
    neighbours: int = 5
    least_similarity: float = 0.5
    segmenter: str = "none"
    seed: int = 0
    rows_at_once: int = runtime(500)

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            require(value >= least, f"augment.{name}", value, f"must be at least {least}", f"augment.{name}={least}")
        for name in (*(f"{operation}_rate" for operation in OPERATIONS), "least_similarity"):
            value = getattr(self, name)
            require(0 <= value < 1, f"augment.{name}", value, "must lie in 0 to 1, without 1", f"augment.{name}=0.1")
        some = any(self.rate(operation) for operation in OPERATIONS)
        rates = "replace_rate, insert_rate, swap_rate and delete_rate"
        require(some, f"augment: {rates}", 0, "leave nothing to do", "augment.delete_rate=0.1")
        require_choice("augment.segmenter", self.segmenter, SEGMENTERS)

    def rate(self, operation: str) -> float:
        """The rate of one of `OPERATIONS`."""
        value: float = getattr(self, f"{operation}_rate")
        return value


_LEAST = {"copies": 1, "min_words": 2, "keep_frequent": 0, "neighbours": 0, "rows_at_once": 1}
