"""Peak memory of a step over a made-up corpus: a program, so that nothing else is in the process.

memory_help.py make FOLDER COUNT          writes COUNT documents, a fifth of them copies or look-alikes
memory_help.py grow FOLDER MEGABYTES      writes one shard of English and Chinese whose vocabulary never ends
memory_help.py STEP FOLDER [TABLE_BYTES]  runs a step; prints peak MB

Steps over the first corpus: `score`, `quality`, `clean`, `sketch`, `dedup`, `decontaminate`. Over the second: `count`,
a worker of the tokenizer step, and `bpe`, `wordpiece`, `unigram`, `word`, `character`, that step as a whole.
"""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path

from made_texts import edited, make_document, make_text, write_artifact

from components.context import local_context
from components.documents import Document, ShardWriter
from components.tokenizer.config import KINDS, TokenizerConfig


def make(folder: Path, count: int) -> None:
    write_artifact(folder / "documents", [_document(number) for number in range(count)], 2)
    items = [f'{{"text": "{make_text("en", 10_000_000 + number, 200)}"}}\n' for number in range(200)]
    (folder / "items.jsonl").write_text("".join(items), encoding="utf-8")


def _document(number: int) -> Document:
    lang = "zh" if number % 4 == 0 else "en"
    size = 600 if lang == "zh" else 1500
    if number % 10 == 9:
        return make_document(f"https://a.example/{number}", make_text(lang, number - 2, size), lang)
    if number % 10 == 8:
        return make_document(
            f"https://a.example/{number}", edited(make_text(lang, number - 4, size), 0.02, number), lang
        )
    return make_document(f"https://a.example/{number}", make_text(lang, number, size), lang)


def grow(folder: Path, megabytes: int) -> None:
    """Documents of 10 KB, English and Chinese in turn: common words, new ones, and runs of hanzi that occur once."""
    with ShardWriter(folder / "documents", 0) as writer:
        for number in range(100 * megabytes):
            draw = random.Random(number)
            lang, text = ("zh", _chinese_runs(number, draw)) if number % 2 else ("en", _with_new_words(number, draw))
            writer.keep(Document(number.to_bytes(16, "big"), "test", f"u{number}", lang, "", text))


def _with_new_words(number: int, draw: random.Random) -> str:
    words = make_text("en", number, 7_500).split(" ")
    new = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(4, 10))) for _ in range(len(words) // 4)]
    words += new
    draw.shuffle(words)
    return " ".join(words)


def _chinese_runs(number: int, draw: random.Random) -> str:
    text = make_text("zh", number, 3_000)
    cuts = sorted(draw.sample(range(len(text)), len(text) // 10))
    return "，".join(text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)]))


def run(step: str, folder: Path, table_bytes: int = 500_000) -> None:
    context = local_context(step, folder / step)
    if step == "count":
        from components.tokenizer.counting import Share, count_share

        shard = next((folder / "documents").rglob("shard-*.arrow"))
        count_share(Share(shard, folder / "table.arrow", 10**12, "bpe", "none"))
    elif step in KINDS:
        from components.tokenizer.step import tokenizer

        tokenizer(context, TokenizerConfig(2048, kind=step, table_bytes=table_bytes), folder / "documents")
    elif step == "quality":
        from components.quality.config import QualityConfig
        from components.quality.step import quality

        items = folder / "items.jsonl"
        quality(context, QualityConfig(), folder / "score" / "output", positives=items, negatives=items)
    elif step == "score":
        from components.score.config import ScoreConfig
        from components.score.step import score

        score(context, ScoreConfig(), folder / "documents")
    elif step == "clean":
        from components.clean.config import CleanConfig
        from components.clean.step import clean

        clean(context, CleanConfig(thresholds={"min_function_word_share": "off"}), folder / "score" / "output")
    elif step == "sketch":
        from components.sketch.config import SketchConfig
        from components.sketch.step import sketch

        sketch(context, SketchConfig(), folder / "documents")
    elif step == "dedup":
        from components.dedup.config import DedupConfig
        from components.dedup.step import dedup

        config = DedupConfig(rows_at_once=20_000, keep_memory=True)
        dedup(context, config, folder / "documents", folder / "sketch" / "output")
    else:
        from components.decontaminate.config import DecontaminateConfig
        from components.decontaminate.step import decontaminate

        decontaminate(context, DecontaminateConfig(), folder / "documents", benchmarks=folder / "items.jsonl")


def peak_mb(process: int | str = "self") -> float:
    """Peak memory of a program in MiB; 0 of one that is gone.

    Not `ru_maxrss`: that counts what the process was before it became this program.
    """
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0) / 1024


if __name__ == "__main__":
    if sys.argv[1] in ("make", "grow"):
        {"make": make, "grow": grow}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    else:
        run(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
        print(peak_mb())
