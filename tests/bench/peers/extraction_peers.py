"""Main text of pages by trafilatura and resiliparse, run in a virtual environment of their own.

`python extraction_peers.py EXTRACTOR < PATHS > RESULT`: paths one a line; out come one JSON line with the CPU seconds
and the texts, in order. The options are those of trafilatura's own evaluation.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path


def trafilatura(fast: bool) -> Callable[[bytes], str]:
    from trafilatura import extract

    run = partial(extract, fast=fast, include_comments=False, include_tables=True, include_formatting=False)
    return lambda payload: run(payload) or ""


def resiliparse() -> Callable[[bytes], str]:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from resiliparse.parse.html import HTMLTree

    def run(payload: bytes) -> str:
        tree = HTMLTree.parse(bytes_to_str(payload, detect_encoding(payload)))
        return str(extract_plain_text(tree, main_content=True))

    return run


def main() -> None:
    name = sys.argv[1]
    run = resiliparse() if name == "resiliparse" else trafilatura(name == "trafilatura fast")
    payloads = [Path(line).read_bytes() for line in sys.stdin.read().split("\n") if line]
    run(payloads[0])  # what is loaded lazily is not counted
    texts, began = [], time.process_time()
    for payload in payloads:
        try:
            texts.append(run(payload))
        except Exception:
            texts.append("")  # counted as all wanted segments missed, as the peer's own evaluation does
    json.dump({"seconds": time.process_time() - began, "texts": texts}, sys.stdout)


if __name__ == "__main__":
    main()
