"""Datatrove's quality filters over texts: `python datatrove_filters.py LANGUAGE TEXTS.jsonl`, with CPU seconds of each.

The four filters that its FineWeb recipe chains, each run on every text whatever the others said, as a measure of what
their statistics cost. The first texts warm the tokenizer up and are not counted. One JSON object is the last line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

WARM = 5


def main(language: str, path: Path) -> None:
    """Runs all filters over all texts."""
    texts = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    filters = {
        "C4": C4QualityFilter(filter_no_terminal_punct=False, language=language),
        "Gopher quality": GopherQualityFilter(language=language),
        "Gopher repetition": GopherRepetitionFilter(language=language),
        "FineWeb": FineWebQualityFilter(language=language),
    }
    seconds, kept = {}, {}
    for name, one in filters.items():
        documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
        for document in documents[:WARM]:
            one.filter(document)
        start = time.process_time()
        kept[name] = sum(one.filter(document) is True for document in documents[WARM:])
        seconds[name] = time.process_time() - start
    print(json.dumps({"seconds": seconds, "kept": kept, "documents": len(texts) - WARM}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
