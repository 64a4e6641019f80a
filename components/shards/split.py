"""Which documents are for validation: those whose keyed hash lies below a limit.

A document's own hash decides, so adding pages to the corpus moves none of the old ones across, and two tokenizers see
the same split. Only where the share would give fewer than the minimum does the limit depend on the whole corpus: it
then rises to take in exactly that many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from components.errors import StepError

_RANGE = 1 << 64


def split_hash(doc_id: bytes, key: int) -> int:
    """A document's place in 0..2**64-1."""
    digest = hashlib.blake2b(doc_id, digest_size=8, key=key.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big")


def split_limit(doc_ids: Iterable[bytes], key: int, fraction: float, least: int) -> int:
    """The limit below which a document is for validation.

    Args:
        doc_ids: Ids of the whole corpus, in any order.
        key: Seed of the split.
        fraction: Share wanted.
        least: Number wanted at least.

    Raises:
        StepError: If nothing would be left to train on.
    """
    hashes = sorted(split_hash(doc_id, key) for doc_id in doc_ids)
    if len(hashes) <= least:
        raise StepError(
            f"The corpus has {len(hashes)} documents and validation alone needs {least}.",
            where=f"tokens.min_val_documents={least}",
            fix="crawl more pages, or drop fewer in clean; or set tokens.min_val_documents=1",
        )
    limit = max(int(fraction * _RANGE), hashes[least - 1] + 1)
    if hashes[-1] < limit:
        raise StepError(
            f"Validation takes all {len(hashes)} documents; none is left to train on.",
            where=f"tokens.val_fraction={fraction}",
            fix="set tokens.val_fraction=0.03, or crawl more pages",
        )
    return limit
