"""The weights of a checkpoint as a Hugging Face folder: `transformers` loads any checkpoint as it lies there.

Their layout and ours hold the same numbers (split or fused, transposed, under other names), so what is read back has
the bits of what was written. A model that no class of theirs can express is written in our own format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from components.model.external import ExternalConfig
from components.model.external_folder import load_external
from components.model.huggingface import from_hugging_face
from components.model.huggingface.configs import kind_for
from components.model.huggingface.weights import FolderWeights
from components.model.language import AnyConfig, save_language_model
from components.training.checkpoint import FILE_BYTES


@dataclass(frozen=True)
class ModelFolder:
    """See `components.training.checkpoint.ModelFiles`; for language models.

    Attributes:
        config: Shape of the model.
        tokenizer: Folder whose tokenizer files travel along.
        names: Names of the model's parameters.
    """

    config: AnyConfig
    tokenizer: Path
    names: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module, config: AnyConfig, tokenizer: Path) -> ModelFolder:
        """For a model, asked before an engine takes it over."""
        return cls(config, tokenizer, tuple(name for name, _ in model.named_parameters()))

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """See `ModelFiles.write`."""
        save_language_model(self.config, weights, folder, self.tokenizer, shard_bytes=FILE_BYTES)

    def read(self, folder: Path) -> Mapping[str, Tensor]:
        """See `ModelFiles.read`."""
        if isinstance(self.config, ExternalConfig):
            state: dict[str, Tensor] = load_external(folder).state_dict()
            return state
        stored = FolderWeights(folder)
        if kind_for(self.config)[0] is None:
            return stored
        return from_hugging_face(self.config, stored, self.names)
