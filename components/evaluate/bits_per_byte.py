"""Bits per byte of validation text: of a language model, and of byte models that only count.

Both sides see the same split: byte models are trained on exactly the bytes of the documents that the language model was
trained on, and scored on exactly the bytes of the validation documents it is scored on. The ids in the validation
and test token shards say which those are. A language model is also charged for the ends of documents, byte models are
not, so the comparison leans towards the byte models.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from components.documents import read_documents
from components.errors import StepError
from components.evaluate import byte_models
from components.model.language import LanguageModel
from components.shards.corpus import open_split
from components.shards.loader import TokenRows, inputs_and_targets
from components.tokenizer.special import BOS
from components.training import metrics


@torch.no_grad()
def model_bits_per_byte(
    model: LanguageModel,
    val: Path,
    length: int,
    max_documents: int | None,
    batch_size: int,
    document_mask: bool = False,
) -> tuple[float, int]:
    """Scores a language model on validation documents.

    Args:
        model: On any device.
        val: The validation folder of a tokens artifact.
        length: Tokens seen at once.
        max_documents: Documents scored; None scores all.
        batch_size: Rows of one forward pass.
        document_mask: Tokens see only their own document, as the model learned to.

    Returns:
        Bits per byte, and the number of bytes.

    Raises:
        StepError: If the split has too little text, or the model reads fewer than `length` tokens.
    """
    if length > model.config.max_length:
        raise StepError(
            f"Rows of {length} tokens are asked for and the model reads {model.config.max_length}.",
            where=f"evaluate.length={length}",
            fix=f"set evaluate.length={model.config.max_length}",
        )
    rows = TokenRows.open(val, length, max_documents)
    device = next(model.parameters()).device
    nats = 0.0
    for batch in rows.rows_sequential(batch_size):
        tokens, targets = (torch.from_numpy(part).to(device) for part in inputs_and_targets(batch))
        segments = (tokens == BOS).cumsum(1) if document_mask else None
        nats += float(model(tokens, targets, segments_BT=segments))
    return metrics.bits_per_byte(nats, rows.num_bytes), rows.num_bytes


def document_ids(folder: Path) -> list[bytes]:
    """The ids of the documents of one split, in its order: `tokens / "val"`."""
    return [doc_id for batch in open_split(folder).batches for doc_id in batch.doc_ids.to_pylist()]


def byte_model_scores(documents: Path, val: Path, order: int, max_documents: int | None) -> dict[str, float]:
    """Trains the unigram and the order-`order` byte model on the training documents and scores both.

    Args:
        documents: The documents artifact that the tokens were made of.
        val: The validation folder of the tokens artifact.
        order: Bytes of context of the stronger model.
        max_documents: Validation documents scored; None scores all.

    Returns:
        unigram, order<n> (bits per byte), train_bytes and val_bytes.
    """
    ids = document_ids(val)
    held_out, scored = frozenset([*ids, *document_ids(val.parent / "test")]), frozenset(ids[:max_documents])
    model = byte_models.train_byte_model(_texts(documents, held_out, inside=False), order)
    unigram = byte_models.ByteModel(model.orders[:1])
    texts = list(_texts(documents, scored, inside=True))
    return {
        "unigram": byte_models.bits_per_byte(unigram, texts),
        f"order{order}": byte_models.bits_per_byte(model, texts),
        "train_bytes": float(model.orders[0].context_counts.sum()),
        "val_bytes": float(sum(map(len, texts))),
    }


def _texts(documents: Path, ids: frozenset[bytes], inside: bool) -> Iterator[bytes]:
    for document in read_documents(documents):
        if (document.doc_id in ids) == inside:
            yield document.text.encode()
