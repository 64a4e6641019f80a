"""Peak memory of a step over a made-up corpus: a program, so that nothing else is in the process.

memory_help.py make FOLDER COUNT          writes COUNT documents, a fifth of them copies or look-alikes
memory_help.py STEP FOLDER                runs `score`, `clean`, `sketch`, `dedup` or `decontaminate`; prints peak MB
"""

from __future__ import annotations

import sys
from pathlib import Path

from made_texts import edited, make_document, make_text, write_artifact

from components.context import local_context
from components.documents import Document


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


def run(step: str, folder: Path) -> None:
    context = local_context(step, folder / step)
    if step == "score":
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
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        run(sys.argv[1], Path(sys.argv[2]))
        print(peak_mb())
