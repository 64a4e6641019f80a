"""Settings of the step `decontaminate`."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, require_choice, runtime

ACTIONS = ("cut", "drop")


@dataclass(frozen=True)
class DecontaminateConfig:
    """When a document is taken to hold an evaluation item, and what becomes of it.

    Attributes:
        action: "cut" takes the passage out of the text, "drop" drops the document (rule `contaminated`).
        words: Words of an n-gram. A part of an item with fewer is looked for as a whole.
        hanzi: Hanzi of an n-gram, for parts that are mostly Chinese or Japanese.
        min_words: A part of fewer words cannot be told from what anybody says, and proves nothing.
        min_hanzi: The same in Chinese and Japanese.
        coverage: Share of the n-grams of an item, or of one long part of it, that makes a leak.
        filler: How many times longer than the item the stretch of text may be that holds them.
        template_parts: An n-gram in more than so many different parts of items is a form of words, and proves nothing.
        min_chars_left: A text that cutting leaves shorter than this is dropped (rule `short_after_cuts`).
        probes: Items planted into made-up documents in each run, each in every disguise, to measure the recall.
        seed: Chooses the probes.
        shards_at_once: Shards between two looks at the clock; more of them keep more workers busy.
    """

    action: str = "cut"
    words: int = 13
    hanzi: int = 20
    min_words: int = 8
    min_hanzi: int = 12
    coverage: float = 0.5
    filler: float = 3.0
    template_parts: int = 20
    min_chars_left: int = 50
    probes: int = 50
    seed: int = 0
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        require_choice("decontaminate.action", self.action, ACTIONS)
        for name, least in _LEAST.items():
            value, default = getattr(self, name), getattr(type(self), name)
            key = f"decontaminate.{name}"
            require(value >= least, key, value, f"must be at least {least}", f"{key}={default}")
        rule = "must be above 0 and at most 1"
        require(0 < self.coverage <= 1, "decontaminate.coverage", self.coverage, rule, "decontaminate.coverage=0.5")
        for least_name, most_name in (("min_words", "words"), ("min_hanzi", "hanzi")):
            least, most = getattr(self, least_name), getattr(self, most_name)
            key = f"decontaminate.{least_name}"
            require(least <= most, key, least, f"must be at most decontaminate.{most_name}={most}", f"{key}={most}")

    def lengths(self, mostly_hanzi: bool) -> tuple[int, int]:
        """Tokens of an n-gram, and the fewest that prove anything, for one kind of text."""
        return (self.hanzi, self.min_hanzi) if mostly_hanzi else (self.words, self.min_words)


_LEAST = {
    "words": 2,
    "hanzi": 2,
    "min_words": 1,
    "min_hanzi": 1,
    "filler": 1,
    "template_parts": 1,
    "min_chars_left": 0,
    "probes": 0,
    "shards_at_once": 1,
}
