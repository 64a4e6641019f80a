"""Settings of the tokenizer step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require

SMALLEST_VOCABULARY = 320  # 7 special tokens, 256 bytes, and some merges


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes ids.

    Attributes:
        vocab_size: Number of ids, special ones included. Ignored when `path` gives a tokenizer.
        path: A folder with a tokenizer.json (or that file) to take as it is, in place of training one.
        train_bytes: Train on at most so many UTF-8 bytes of text: the documents of smallest id, which is a hash, hence
            a fair sample. Bounds memory, of which Chinese text needs most.
        min_frequency: A pair seen fewer times than this is not merged.
    """

    vocab_size: int = 4096
    path: str | None = None
    train_bytes: int = 100_000_000
    min_frequency: int = 2

    def __post_init__(self) -> None:
        size_rule = f"must be at least {SMALLEST_VOCABULARY} (7 special tokens, 256 bytes and some merges)"
        size_fits = self.vocab_size >= SMALLEST_VOCABULARY
        require(size_fits, "tokenizer.vocab_size", self.vocab_size, size_rule, "tokenizer.vocab_size=4096")
        require(self.train_bytes >= 1, "tokenizer.train_bytes", self.train_bytes, "must be positive", "it to 100000000")
        frequency = self.min_frequency
        require(frequency >= 1, "tokenizer.min_frequency", frequency, "must be at least 1", "tokenizer.min_frequency=2")
        require(self.path != "", "tokenizer.path", "''", "is empty", "tokenizer.path=null to train one")
