"""Documents on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_texts import write_artifact

from components.documents import Document


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes documents as an artifact of some shards."""
    made: list[Path] = []

    def do_write(documents: list[Document], num_shards: int = 3) -> Path:
        made.append(tmp_path / f"documents-{len(made)}")
        return write_artifact(made[-1], documents, num_shards)

    return do_write
