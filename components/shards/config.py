"""Settings of the tokens step, and of the mixture that whoever reads the tokens may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.configuring import require, runtime
from components.shards.weights import parse_change, whole_weights


@dataclass(frozen=True)
class TokensConfig:
    """How documents become token shards.

    Attributes:
        val_fraction: Share of the documents that go to validation. The hash of a document's cluster decides, so near
            duplicates stay on one side.
        min_val_documents: Validation gets at least so many, whatever the share.
        test_fraction: Share of the documents that go to the test split, which nothing reads unless asked to; 0 makes
            none.
        min_test_documents: The test split gets at least so many, unless `test_fraction` is 0.
        seed: Chooses which documents those are.
        shards_at_once: Shards handed out between two looks at whether to stop.
    """

    val_fraction: float = 0.03
    min_val_documents: int = 8
    test_fraction: float = 0.01
    min_test_documents: int = 1
    seed: int = 17
    shards_at_once: int = runtime(64)

    def __post_init__(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            share = getattr(self, name)
            require(0 <= share < 1, f"tokens.{name}", share, "must be in [0, 1)", f"tokens.{name}=0.03")
        both = self.val_fraction + self.test_fraction
        require(
            both < 1,
            "tokens.test_fraction",
            self.test_fraction,
            f"leaves nothing to train on: with val_fraction it is {both:g}",
            "tokens.test_fraction=0.01",
        )
        for name in ("min_val_documents", "min_test_documents", "shards_at_once"):
            least = getattr(self, name)
            require(least >= 1, f"tokens.{name}", least, "must be at least 1", f"tokens.{name}=8")


@dataclass(frozen=True)
class MixtureConfig:
    """In what proportion groups of documents are read (languages or sources, as `pack.group` says).

    A group that has no weight is not read. Without any weights all rows are read in one order, each once an epoch.

    Attributes:
        weights: Group to weight, "0.7", "2" or "1/3", from the first step on; they need not add up to 1.
        changes: First step to the weights that hold from there on, as "en=0.5, zh=0.5". What was read before that step
            and the order within each group stay as they are.
    """

    weights: dict[str, str] = field(default_factory=dict)
    changes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weights:
            whole_weights("mixture.weights", self.weights)
        for step, text in self.changes.items():
            key = f"mixture.changes.{step}"
            require(step.isascii() and step.isdigit() and int(step) > 0, key, text, "names no step", "a step above 0")
            whole_weights(key, parse_change(key, text))
        require(
            bool(self.weights) or not self.changes,
            "mixture.changes",
            self.changes,
            "needs weights to change from",
            "mixture.weights={en: 0.7, zh: 0.3}",
        )

    def stretches(self) -> list[tuple[int, dict[str, int]]]:
        """First step and whole weights of each stretch of constant weights, in order; empty without weights."""
        if not self.weights:
            return []
        changes = sorted((int(step), text) for step, text in self.changes.items())
        later = [(step, whole_weights("mixture", parse_change("mixture", text))) for step, text in changes]
        return [(0, whole_weights("mixture", self.weights)), *later]
