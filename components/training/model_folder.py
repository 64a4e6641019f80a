"""The weights of a training as a Hugging Face folder: `transformers` loads any checkpoint as it lies there.

Every training writes one: the class is that of its artifact, a sequence classifier's for a reward model, a translator's
for an encoder-decoder. Their layout and ours hold the same numbers (split or fused, transposed, under other names), so
what is read back has the bits of what was written. A model that no class of theirs can express is written in our own
format.

    files = ModelFolder.of(model, model.config, tokenizer)          before an engine takes the model over
    train(..., files=files)                                         checkpoints
    files.save(ctx.output / "model", engine.full_weights())         the artifact

Several models of one training lie in one checkpoint, each in a `place` of its own:

    saver.start(step, [(actor_files, actor_weights), (critic_files, critic_weights)], tensors, state)
    load_engine(critic, checkpoint, critic_files, "critic_")        its optimizer is in the group "critic_optimizer"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from components.model.external import SCALAR, ExternalConfig
from components.model.external_folder import load_external, load_external_scalar
from components.model.huggingface import from_hugging_face, name_labels
from components.model.huggingface.configs import kind_for
from components.model.huggingface.folder import head_of
from components.model.huggingface.weights import FolderWeights
from components.model.language import AnyConfig, save_language_model
from components.training.checkpoint import FILE_BYTES


@dataclass(frozen=True)
class ModelFolder:
    """See `components.training.checkpoint.ModelFiles`; for every model of ours and every causal one of transformers.

    Attributes:
        config: Shape of the model.
        tokenizer: Folder whose tokenizer files travel along.
        names: Names of the model's parameters; they tell what stands on its backbone.
        labels: Of a classifier, in the order of its outputs.
        place: Folder of the model within a checkpoint; empty where a training has one model, or for its main one.
    """

    config: AnyConfig
    tokenizer: Path
    names: tuple[str, ...]
    labels: tuple[str, ...] = ()
    place: str = ""

    @classmethod
    def of(
        cls, model: nn.Module, config: AnyConfig, tokenizer: Path, labels: tuple[str, ...] = (), place: str = ""
    ) -> ModelFolder:
        """For a model, asked before an engine takes it over."""
        return cls(config, tokenizer, tuple(name for name, _ in model.named_parameters()), labels, place)

    def save(self, folder: Path, weights: Mapping[str, Tensor], shard_bytes: int = 0) -> str:
        """Writes weights, by our parameter names, as a model folder; arguments and result as of `save_model`."""
        sentence = save_language_model(self.config, weights, folder, self.tokenizer, shard_bytes=shard_bytes)
        if self.labels:
            name_labels(folder, self.labels)
        return sentence

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """See `ModelFiles.write`."""
        self.save(folder / self.place, weights, FILE_BYTES)

    def read(self, folder: Path) -> Mapping[str, Tensor]:
        """See `ModelFiles.read`."""
        folder = folder / self.place
        if isinstance(self.config, ExternalConfig):
            load = load_external_scalar if self.config.head == SCALAR else load_external
            state: dict[str, Tensor] = load(folder).state_dict()
            return state
        stored = FolderWeights(folder)
        if kind_for(self.config, head_of(self.names))[0] is None:
            return stored
        return from_hugging_face(self.config, stored, self.names)
