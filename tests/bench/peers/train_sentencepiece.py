"""Runs in the peers' environment: trains SentencePiece on lines of a JSON file, encodes others, tells what it took.

    python train_sentencepiece.py TEXTS.json   ->   one JSON object on standard output

TEXTS.json holds {"vocab_size": n, "train": [line, ...], "test": {"en": [line, ...], "zh": [...]}}. Byte fallback is on
and normalisation off, so that it too gives every text back.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path


def measure(kind: str, texts: dict) -> dict[str, float]:
    """Seconds to train (CPU), and for each language tokens and megabytes a second (CPU, best of three)."""
    import sentencepiece

    started = time.process_time()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts["train"]),
        model_writer=model,
        model_type=kind,
        vocab_size=texts["vocab_size"],
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        max_sentence_length=1_000_000,
        num_threads=1,
        minloglevel=2,
    )
    found: dict[str, float] = {"train_s": time.process_time() - started}
    encode = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).encode
    for lang, lines in texts["test"].items():
        size = sum(len(line.encode()) for line in lines) / 1e6
        found[f"tokens_{lang}"] = sum(map(len, encode(lines, num_threads=1)))
        found[f"rate_{lang}"] = max(size / _seconds(encode, lines) for _ in range(3))
    return found


def _seconds(encode, lines) -> float:
    started = time.process_time()
    for line in lines:
        encode(line)
    return time.process_time() - started


def train_rustbpe(texts: dict) -> float:
    """Seconds (CPU) of rustbpe for the same vocabulary size."""
    import rustbpe

    started = time.process_time()
    rustbpe.Tokenizer().train_from_iterator(iter(texts["train"]), texts["vocab_size"], pattern=texts["pattern"])
    return time.process_time() - started


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    result = {kind: measure(kind, given) for kind in ("bpe", "unigram")}
    result["rustbpe"] = {"train_s": train_rustbpe(given)}
    print(json.dumps(result))
