"""Documents a second of extract, clean and dedup on one core, over made-up pages in English and Chinese.

CPU time of the best of three, on 1,000 pages of about 2,000 (English) or 700 (Chinese) characters of text each. Prints
figures and checks only that the work was done.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from components.clean.config import CleanConfig
from components.clean.rules import rules_of
from components.clean.step import clean_document
from components.crawl.warc_read import Page
from components.dedup.config import DedupConfig
from components.dedup.minhash import MinHasher
from components.dedup.shingles import digest_of, fold, shingles_of
from components.documents import Document
from components.extract.config import ExtractConfig
from components.extract.pages import extract_page

NUM_PAGES = 1000
_PLAIN = "the a of to and in it was on for river street night water house town bread mill gate wall stone baker"
WORDS = _PLAIN.split() + [
    f"{a}{b}" for a in ("mar", "tel", "so", "win", "har") for b in ("den", "low", "per", "ton", "ly", "ing", "ed")
]
HANZI = "的一是了我不人在他有这上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对"


def make_page(lang: str, number: int) -> Page:
    draw = random.Random(number)
    if lang == "zh":
        sentences = ["".join(draw.choices(HANZI, k=draw.randint(8, 30))) + "。" for _ in range(36)]
    else:
        sentences = [" ".join(draw.choices(WORDS, k=draw.randint(6, 18))) + "." for _ in range(34)]
    body = "".join(f"<p>{' '.join(sentences[i : i + 3])}</p>\n" for i in range(0, len(sentences), 3))
    links = "".join(f"<li><a href='/{i}'>Page {i}</a></li>" for i in range(40))
    html = (
        f"<html><head><title>Page {number}</title></head><body><nav><ul>{links}</ul></nav><main><h1>Page {number}</h1>"
    )
    html += f"{body}</main><aside><ul>{links}</ul></aside><footer>Copyright 2024</footer></body></html>"
    return Page(f"http://example.org/{lang}/{number}", 200, {"content-type": "text/html"}, html.encode())


def best_rate(work: Callable[[], int]) -> float:
    rates = []
    for _ in range(3):
        start = time.process_time()
        done = work()
        rates.append(done / (time.process_time() - start))
    return max(rates)


@pytest.mark.bench
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_documents_a_second_of_each_step(lang: str) -> None:
    pages = [make_page(lang, number) for number in range(NUM_PAGES)]
    results = [extract_page(page, ExtractConfig()) for page in pages]
    documents = [result for result in results if isinstance(result, Document)]
    rules = rules_of(CleanConfig())
    hasher = MinHasher(DedupConfig().bands, DedupConfig().rows)
    n = DedupConfig().shingle_chars_zh if lang == "zh" else DedupConfig().shingle_chars

    def sketch(document: Document) -> int:
        folded = fold(document.text, document.lang)
        return len(digest_of(folded)) + len(hasher.bands_of(shingles_of(folded, n)))

    rates = {
        "extract": best_rate(lambda: len([extract_page(page, ExtractConfig()) for page in pages])),
        "clean": best_rate(lambda: len([clean_document(one, ("en", "zh"), rules) for one in documents])),
        "dedup signatures": best_rate(lambda: len([sketch(one) for one in documents])),
    }
    text_bytes = sum(len(one.text.encode()) for one in documents) / len(documents)
    for name, rate in rates.items():
        print(f"{lang} {name}: {rate:,.0f} documents/s, {rate * text_bytes / 1e6:.1f} MB/s of text")
    assert len(documents) == NUM_PAGES
