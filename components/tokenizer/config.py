"""Settings of the tokenizer step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import added, require, require_choice, runtime

KINDS = ("bpe", "unigram", "wordpiece", "word", "character")
SEGMENTERS = ("none", "jieba")
SMALLEST = {
    "bpe": (320, "7 special tokens, 256 bytes and some merges"),
    "unigram": (320, "7 special tokens, 256 bytes and some pieces"),
    "wordpiece": (576, "7 special tokens, 256 bytes that begin a word, 256 inside it and some merges"),
    "word": (264, "7 special tokens, 256 bytes and a word"),
    "character": (264, "7 special tokens, 256 bytes and a character"),
}
"""The least size of a vocabulary of each kind, and what fills it."""


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes ids. Every kind has all 256 bytes in its vocabulary, so none loses text.

    Attributes:
        vocab_size: Number of ids, special ones included. Ignored when `path` gives a tokenizer.
        path: A folder with a tokenizer.json (or that file) to take as it is, in place of training one.
        train_bytes: Train on at most so many UTF-8 bytes of text: the documents of smallest id, which is a hash, hence
            a fair sample.
        min_frequency: What is seen fewer times (a pair of "bpe" and "wordpiece", a whole token of the other kinds)
            does not become a token; of a sample, see `table_bytes`, what is estimated to be.
        kind: "bpe" (byte-level, the default and the only one with the fast encoder), "unigram", "wordpiece" (longest
            match first), "word" (words of the corpus, others by their bytes) or "character".
        segmenter: Where kind "word" finds Chinese words: "none" takes every character for one, "jieba" cuts the
            training text with that package (`pip install 'headwater[jieba]'`).
        masks: Special tokens that stand for what a model is to fill in: 1 where `pretrain.objective` is "masked", as
            many as a row has gaps where it is "span". They are part of `vocab_size`.
        table_bytes: Train on at most so many bytes of different pieces (words, runs of Chinese): all frequent ones and
            a fair sample of the rare ones, which count for those left out. It bounds the memory of training, about 110
            bytes for each ("bpe"), or 350 for each of the first million and 30 beyond ("unigram"). None: 256 for
            every id, at least 1.5 MB.
        shards_at_once: Document shards counted between two looks at whether to stop.
    """

    vocab_size: int = 4096
    path: str | None = None
    train_bytes: int = 100_000_000
    min_frequency: int = 2
    kind: str = "bpe"
    segmenter: str = "none"
    masks: int = added(0)
    table_bytes: int | None = None
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        require_choice("tokenizer.kind", self.kind, KINDS)
        require_choice("tokenizer.segmenter", self.segmenter, SEGMENTERS)
        fits = self.segmenter == "none" or self.kind == "word"
        require(fits, "tokenizer.segmenter", self.segmenter, "goes with kind=word alone", "tokenizer.kind=word")
        require(self.masks >= 0, "tokenizer.masks", self.masks, "must not be negative", "tokenizer.masks=0")
        least, parts = SMALLEST[self.kind]
        least, parts = least + self.masks, f"{self.masks} masks, {parts}" if self.masks else parts
        rule, fix = f"must be at least {least} ({parts})", f"tokenizer.vocab_size={max(4096, least)}"
        require(self.vocab_size >= least, "tokenizer.vocab_size", self.vocab_size, rule, fix)
        require(self.train_bytes >= 1, "tokenizer.train_bytes", self.train_bytes, "must be positive", "it to 100000000")
        frequency = self.min_frequency
        require(frequency >= 1, "tokenizer.min_frequency", frequency, "must be at least 1", "tokenizer.min_frequency=2")
        require(self.path != "", "tokenizer.path", "''", "is empty", "tokenizer.path=null to train one")
        rule, fix = "must be at least 1000", "tokenizer.table_bytes=null for what fits the vocabulary"
        require(self.most_bytes >= 1000, "tokenizer.table_bytes", self.table_bytes, rule, fix)
        at_once, fix = self.shards_at_once, "tokenizer.shards_at_once=16"
        require(at_once >= 1, "tokenizer.shards_at_once", at_once, "must be at least 1", fix)

    @property
    def most_bytes(self) -> int:
        """What bounds the table: a larger vocabulary is learned from more pieces."""
        return max(1_500_000, 256 * self.vocab_size) if self.table_bytes is None else self.table_bytes
