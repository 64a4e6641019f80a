"""Runs of `sketch` and `dedup` over made-up documents."""

from __future__ import annotations

from pathlib import Path

from components.context import local_context
from components.dedup.config import DedupConfig
from components.dedup.step import dedup
from components.documents import read_documents
from components.sketch.config import SketchConfig
from components.sketch.step import sketch


def sketched(documents: Path, config: SketchConfig | None = None) -> Path:
    """The sketches of some documents, made once beside them."""
    folder = documents.with_name(f"{documents.name}-sketches")
    if not (folder / "output" / "sketches.json").exists():
        sketch(local_context("sketch", folder), config or SketchConfig(), documents=documents)
    return folder / "output"


def run(
    folder: Path,
    documents: Path,
    config: DedupConfig | None = None,
    previous: Path | None = None,
    sketches: Path | None = None,
) -> dict[str, float]:
    """Sketches documents and runs `dedup` over them."""
    context = local_context("dedup", folder)
    return dedup(context, config or DedupConfig(), documents, sketches or sketched(documents), previous)


def kept_urls(folder: Path) -> set[str]:
    """URLs of the documents that a run kept."""
    return {document.url for document in read_documents(folder / "output")}


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
