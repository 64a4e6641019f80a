"""The weights of a checkpoint as a Hugging Face folder: `transformers` loads any checkpoint as it lies there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from components.model.config import ModelConfig
from components.model.huggingface import load_scalar, load_transformer, save_model


@dataclass(frozen=True)
class HuggingFaceFiles:
    """See `components.training.checkpoint.ModelFiles`.

    Attributes:
        config: Shape of the model.
        tokenizer: Folder whose tokenizer files travel along.
        scalar: It has a scalar head: a reward model.
    """

    config: ModelConfig
    tokenizer: Path
    scalar: bool = False

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """See `ModelFiles.write`."""
        save_model((self.config, weights), folder, self.tokenizer)

    def read(self, folder: Path) -> Mapping[str, Tensor]:
        """See `ModelFiles.read`."""
        state: dict[str, Tensor] = (load_scalar if self.scalar else load_transformer)(folder).state_dict()
        return state
