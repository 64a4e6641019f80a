"""Small blocks of samples, so that batches lie in several of them and tiny corpora are not laid out for ages ahead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def small_blocks() -> Iterator[None]:
    """128 samples instead of thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.shards.loader.BLOCK", 128)
        yield
