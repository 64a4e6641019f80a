"""MinHash signatures by datatrove, rensa and datasketch, run in their own environment by `test_dedup_speed.py`.

Reads JSON lines {"text": ..., "lang": "en" or "zh"} of one language, prints documents per second of CPU time as JSON.
datatrove is timed end to end, as its pipeline step runs; rensa and datasketch from texts to signatures with the same
character n-grams as ours, shingles made in Python as their users do. 250 permutations each; datatrove by its own
defaults for the number of buckets (14 of 8) unless told otherwise.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", RAYON_NUM_THREADS="1")


def best(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def by_datatrove(texts: list[str], lang: str) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    with tempfile.TemporaryDirectory() as folder:
        step = MinhashDedupSignature(folder, MinhashConfig(), language={"en": "eng", "zh": "cmn"}[lang])
        step.run((Document(text=text, id=str(number)) for number, text in enumerate(texts)), 0, 1)


def shingles(text: str, n: int) -> set[str]:
    return {text[at : at + n] for at in range(max(1, len(text) - n + 1))}


def by_rensa(texts: list[str], n: int) -> None:
    from rensa import RMinHash

    for text in texts:
        sketch = RMinHash(num_perm=250, seed=1)
        sketch.update(list(shingles(text, n)))
        sketch.digest()


def by_datasketch(texts: list[str], n: int) -> None:
    from datasketch import MinHash

    for text in texts:
        sketch = MinHash(num_perm=250)
        sketch.update_batch([one.encode() for one in shingles(text, n)])


def main(path: str, rounds: int) -> None:
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    texts, lang = [row["text"] for row in rows], rows[0]["lang"]
    n = 3 if lang == "zh" else 5
    few = texts[: len(texts) // 4]
    by_datatrove(few[:20], lang)  # loads its tokenizer
    rates = {
        "datatrove": len(few) / best(lambda: by_datatrove(few, lang), rounds),
        "datasketch": len(few) / best(lambda: by_datasketch(few, n), rounds),
        "rensa": len(texts) / best(lambda: by_rensa(texts, n), rounds),
    }
    print(json.dumps(rates))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
