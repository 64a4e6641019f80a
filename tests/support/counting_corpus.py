"""A corpus of counting sentences with its tokenizer and tokens: the smallest that a real pretraining can be run on."""

from __future__ import annotations

from pathlib import Path

from components.context import local_context
from components.documents import Document, Outcome, make_doc_id, write_shard, write_summary
from components.shards.config import TokensConfig
from components.shards.step import tokens
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.step import tokenizer

ENGLISH = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
WORDS = [*ENGLISH, *"一二三四五六七八九十", "你好", "再见"]


def counting_corpus(folder: Path, num_documents: int = 120) -> Path:
    """Writes `documents`, `tokenizer/output` and `tokens/output` into a folder."""
    outcome = Outcome()
    for number in range(num_documents):
        step = 1 + number % 3
        text = " ".join(WORDS[(number + place * step) % len(WORDS)] for place in range(40)) + "."
        url = f"http://corpus.test/{number}"
        outcome.kept.append(Document(make_doc_id("test", url, text.encode()), "test", url, "en", "", text))
    write_summary(folder / "documents", [write_shard(folder / "documents", 0, outcome)])
    vocabulary = local_context("tokenizer", folder / "tokenizer")
    tokenizer(vocabulary, TokenizerConfig(vocab_size=320), folder / "documents")
    made = local_context("tokens", folder / "tokens", 17)
    tokens(made, TokensConfig(val_fraction=0.1), folder / "documents", vocabulary.output)
    return folder
