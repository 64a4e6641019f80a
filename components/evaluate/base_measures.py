"""The two measurements of `evaluate_base`, as calls that workers can share out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from components.context import Json
from components.errors import StepError
from components.evaluate.bits_per_byte import byte_model_scores, model_bits_per_byte
from components.evaluate.config import EvaluateBaseConfig
from components.launching import device_of
from components.model.language import load_language_model


@dataclass(frozen=True)
class Work:
    """One measurement: of the "base" model, or of the "baselines"; see the step for the rest."""

    name: str
    config: EvaluateBaseConfig
    base: Path
    tokens: Path
    tokenizer: Path
    documents: Path


def measure(work: Work) -> Json:
    """Makes one measurement, on one compute thread where there is no GPU."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    config, val = work.config, work.tokens / "val"
    if work.name == "baselines":
        return dict(byte_model_scores(work.documents, val, config.byte_order, config.val_documents))
    folder = work.base / "model"
    if (folder / "tokenizer.json").read_bytes() != (work.tokenizer / "tokenizer.json").read_bytes():
        raise StepError(
            "The model was trained with another tokenizer than the validation tokens.",
            where=str(folder / "tokenizer.json"),
            fix="evaluate a model on tokens of its own tokenizer",
        )
    model = load_language_model(folder).to(device_of(0)).eval()
    bits, _ = model_bits_per_byte(
        model, val, config.length, config.val_documents, config.micro_batch, config.document_mask
    )
    return {"bpb": bits}
