"""Settings of the pack step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, require_choice, runtime

STRATEGIES = ("concat", "best_fit", "document")
GROUPINGS = ("none", "lang", "source")
REPEATS = ("none", "log", "sqrt")


@dataclass(frozen=True)
class PackConfig:
    """How training rows are made of documents.

    Attributes:
        strategy: "concat" cuts the stream of all documents into rows: nothing is cropped or padded, and a row begins
            anywhere in a document. "best_fit" lets a row begin with a document wherever it can and fills it with whole
            ones; what fits nowhere is cropped or padded, whichever wastes less. "document" gives each document rows of
            its own, padded.
        length: Tokens the model sees at once, as in `pretrain.length`.
        group: What mixture weights are given to: "none" (one group), "lang" or "source".
        repeat: How often a document stands in an epoch, by the size s of the set of near duplicates that it stands
            for: "none" once, "log" 1 + log2 s times, "sqrt" s ** 0.5 times, both rounded down.
        max_repeat: A document never stands in an epoch more often than this.
        window: Documents that are packed together ("best_fit").
        windows_at_once: Windows handed out between two looks at whether to stop.
    """

    strategy: str = "concat"
    length: int = 256
    group: str = "none"
    repeat: str = "none"
    max_repeat: int = 4
    window: int = 65_536
    windows_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        require_choice("pack.strategy", self.strategy, STRATEGIES)
        require_choice("pack.group", self.group, GROUPINGS)
        require_choice("pack.repeat", self.repeat, REPEATS)
        for name, least in (("length", 2), ("max_repeat", 1), ("window", 1), ("windows_at_once", 1)):
            value = getattr(self, name)
            require(value >= least, f"pack.{name}", value, f"must be at least {least}", f"pack.{name}=256")
