"""Peak memory of a step over a made-up corpus: a program, so that nothing else is in the process.

memory_help.py make FOLDER COUNT          writes COUNT documents, a fifth of them copies or look-alikes
memory_help.py grow FOLDER MEGABYTES      writes one shard of English and Chinese whose vocabulary never ends
memory_help.py english FOLDER MEGABYTES   writes one shard whose words are as frequent as those of English
memory_help.py archive FOLDER COUNT       writes COUNT rows into rows.jsonl and COUNT pages into pages.warc
memory_help.py site FOLDER COUNT          writes COUNT pages that name ten times as many others
memory_help.py STEP FOLDER [TABLE_BYTES]  runs a step; prints peak MB

Steps over the first corpus: `score`, `quality`, `clean`, `sketch`, `dedup`, `decontaminate`, `card`. Over the second
and third: `count`, a worker of the tokenizer step, and `bpe`, `wordpiece`, `unigram`, `word`, `character`, that step as
a whole. Over the fourth: `ingest_files`, `ingest_warc`. Over the fifth: `crawl`; a program of its own serves it.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


_RANKS, _COMMON_RANKS, _WORDS_AT_ONCE = 20_000_000, 7_000, 2_000
_SYLLABLES = [start + vowel for start in (*"bcdfghlmnprstw", "ch", "sh", "th") for vowel in "aeiou"]


def english(folder: Path, megabytes: int) -> None:
    """Documents of 10 KB whose words have the frequencies of English: different ones grow as the 0.6th power of text.

    The word of rank r has a share of 1 / (r + 2.7), rarer ones than the 7,000th of r ** -1.65 (Montemurro 2001, "Beyond
    the Zipf-Mandelbrot law in quantitative linguistics", finds such a bend in all large corpora).
    """
    import numpy as np  # not above: the steps measured here are to load what they need, and no more

    shares = 1 / (np.arange(1, _RANKS + 1) + 2.7)
    shares[_COMMON_RANKS:] = shares[_COMMON_RANKS] * (np.arange(_COMMON_RANKS + 1, _RANKS + 1) / _COMMON_RANKS) ** -1.65
    up_to = np.cumsum(shares)
    draw = np.random.default_rng(1)
    with ShardWriter(folder / "documents", 0) as writer:
        for number in range(100 * megabytes):
            ranks = np.searchsorted(up_to, draw.random(_WORDS_AT_ONCE) * up_to[-1]).tolist()
            text = _sentences(ranks, draw.random(_WORDS_AT_ONCE).tolist())
            writer.keep(Document(number.to_bytes(16, "big"), "test", f"u{number}", "en", "", text[:10_000]))


def _sentences(ranks: list[int], marks: list[float]) -> str:
    """The words of some ranks, one in seventeen with a comma, one in fifteen at the end of a sentence."""
    words = []
    begins = True
    for rank, mark in zip(ranks, marks, strict=True):
        word = _word(rank).capitalize() if begins else _word(rank)
        begins = 0.06 <= mark < 0.125
        words.append(word + ("," if mark < 0.06 else "." if begins else ""))
    return " ".join(words)


def _word(rank: int) -> str:
    """Another word for every rank, the shorter the more frequent."""
    parts = []
    rank += 1
    while rank:
        rank, part = divmod(rank, len(_SYLLABLES))
        parts.append(_SYLLABLES[part])
    return "".join(parts)


def archive(folder: Path, count: int) -> None:
    """Rows and pages of 1,600 characters, a fourth of them Chinese; every row says what language it is in."""
    texts = {lang: make_text(lang, 1, 300_000) for lang in ("en", "zh")}
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as rows, (folder / "pages.warc").open("wb") as pages:
        for number in range(count):
            lang, at = "zh" if number % 4 == 0 else "en", number * 7 % 298_000
            text = texts[lang][at : at + 1600]
            row = {"url": f"https://a.example/{number}", "lang": lang, "title": f"Row {number}", "text": text}
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
            html = f"<html><body><h1>Page {number}</h1><p>{text}</p></body></html>"
            pages.write(_record(number, html.encode()))


def _record(number: int, body: bytes) -> bytes:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    head = f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number:032d}>\r\n"
    head += f"WARC-Target-URI: http://a.example/{number}.html\r\nWARC-Date: 2024-03-05T00:00:00Z\r\n"
    head += f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    return head.encode() + block + b"\r\n\r\n"


def site(folder: Path, count: int) -> None:
    """A tree of pages, each with ten branches, twenty addresses elsewhere that no other names, and 3 KB of text."""
    pages = folder / "site"
    pages.mkdir()
    for number in range(count):
        mine = [f"/{10 * number + branch}.html" for branch in range(1, 11) if 10 * number + branch < count]
        others = [f"https://host{number % 50}.example/page/{number}/{branch}" for branch in range(20)]
        links = "".join(f'<a href="{link}">more</a> ' for link in [*mine, *others])
        html = f"<html><body><p>{make_text('en', number % 10, 3000)}</p>{links}</body></html>"
        (pages / ("index.html" if number == 0 else f"{number}.html")).write_text(html, encoding="utf-8")


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    port = folder / "port"
    server = subprocess.Popen([sys.executable, Path(__file__).with_name("site_server.py"), folder / "site", port])
    try:
        deadline = time.monotonic() + 60
        while not (port.exists() and port.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port.read_text()}/"
    finally:
        server.kill()
        server.wait()
        port.unlink()


def run(step: str, folder: Path, table_bytes: int = 500_000) -> None:
    context = local_context(step, folder / step)
    if step == "count":
        from components.tokenizer.counting import Share, count_share

        shard = next((folder / "documents").rglob("shard-*.arrow"))
        count_share(Share(shard, folder / "table.arrow", 10**12, "bpe", "none"))
    elif step in KINDS:
        from components.tokenizer.step import tokenizer

        tokenizer(context, TokenizerConfig(2048, kind=step, table_bytes=table_bytes), folder / "documents")
    elif step == "ingest_files":
        from components.ingest.config import IngestFilesConfig
        from components.ingest.step import ingest_files

        ingest_files(context, IngestFilesConfig(paths=(str(folder / "rows.jsonl"),)))
    elif step == "ingest_warc":
        from components.ingest.config import IngestWarcConfig
        from components.ingest.step import ingest_warc

        ingest_warc(context, IngestWarcConfig(paths=(str(folder / "pages.warc"),)))
    elif step == "crawl":
        from components.crawl.config import CrawlConfig
        from components.crawl.step import crawl

        with _served(folder) as url:
            crawl(context, CrawlConfig(seeds=(url,), allow_loopback=True, delay_s=0.0))
    elif step == "card":
        from components.card.config import CardConfig
        from components.card.step import card

        card(context, CardConfig(), score=folder / "score" / "output")
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

        config = DedupConfig(rows_at_once=10_000, keep_memory=True)
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


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "make": make,
    "grow": grow,
    "english": english,
    "archive": archive,
    "site": site,
}

if __name__ == "__main__":
    if sys.argv[1] in WRITERS:
        WRITERS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    else:
        run(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
        print(peak_mb())
