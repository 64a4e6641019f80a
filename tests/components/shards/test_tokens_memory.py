"""Memory of the tokens and pack steps: the same for ten times the documents in one shard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components.documents import Document, ShardWriter
from components.tokenizer.train import train_bpe

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, sys, threading, time
from pathlib import Path
from components.context import local_context
from components.pack.config import PackConfig
from components.pack.step import pack
from components.shards import format
from components.shards.config import TokensConfig
from components.shards.step import tokens

format.BATCH_TOKENS = 1 << 18  # the small corpus fills some batches too
most = [0]

def watch():
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        most[0] = max(most[0], next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
        time.sleep(0.005)

threading.Thread(target=watch, daemon=True).start()
documents, tokenizer, folder = map(Path, sys.argv[1:4])
ctx = local_context("tokens", folder / "tokens", 17)
tokens(ctx, TokensConfig(), documents, tokenizer)
peak = [*most]
most[0] = 0
packed = local_context("pack", folder / "pack")
pack(packed, PackConfig("best_fit", 512, group="lang", window=4096), ctx.output)
peak += most
print(json.dumps(peak))
"""


def peak_kib(folder: Path, num_documents: int) -> list[int]:
    """Peak memory of a process of its own in each step (mapped files, which the system drops at will, left out)."""
    draw = np.random.default_rng(1)
    words = ["".join(draw.choice(list("abcdefghij"), 5)) for _ in range(500)]
    with ShardWriter(folder / "documents", 0) as writer:
        for number in range(num_documents):
            text = " ".join(draw.choice(words, 400))
            lang = "en" if number % 3 else "zh"
            writer.keep(Document(number.to_bytes(16, "big"), "test", f"u{number}", lang, "", text))
    (folder / "tokenizer").mkdir()
    train_bpe(words, 400, 2).save(str(folder / "tokenizer" / "tokenizer.json"))
    command = [sys.executable, "-c", PROGRAM, *(str(folder / name) for name in ("documents", "tokenizer", "run"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    peak: list[int] = json.loads(done.stdout.splitlines()[-1])
    return peak


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_ten_times_the_documents_take_no_more_than_a_fifth_more_memory(tmp_path: Path):
    small, large = peak_kib(tmp_path / "small", 2_000), peak_kib(tmp_path / "large", 20_000)
    print(f"\npeak KiB in tokens and pack: {small} of 2,000 documents, {large} of 20,000")
    assert all(more < 1.2 * less for more, less in zip(large, small, strict=True))
