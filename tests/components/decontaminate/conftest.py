"""Documents and benchmarks on disk, and one run over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from made_texts import make_document, write_artifact

from components.context import local_context
from components.decontaminate.config import DecontaminateConfig
from components.decontaminate.step import decontaminate


@pytest.fixture
def benchmark(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as a benchmark."""

    def write(*rows: dict[str, object]) -> Path:
        path = tmp_path / "bench.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., tuple[dict[str, float], Path]]:
    """Runs the step over texts and a benchmark; returns its metrics and artifact."""

    def run(
        texts: Sequence[str], benchmarks: Path, config: DecontaminateConfig | None = None, name: str = "run"
    ) -> tuple[dict[str, float], Path]:
        documents = write_artifact(
            tmp_path / f"{name}-documents", [make_document(f"{number}", text) for number, text in enumerate(texts)]
        )
        context = local_context("decontaminate", tmp_path / name)
        metrics = decontaminate(context, config or DecontaminateConfig(probes=0), documents, benchmarks=benchmarks)
        return metrics, context.output

    return run
