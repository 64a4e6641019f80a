"""Writing a model folder, and reading any that transformers wrote in one of the classes of `kinds`."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from components.errors import StepError
from components.model.config import ENCODERS, ModelConfig
from components.model.encoder_decoder import EncoderDecoder
from components.model.heads import ClassifierModel, ScalarModel
from components.model.huggingface.configs import OWN_TYPE, kind_for, read_values, unlike, unusable, write_values
from components.model.huggingface.forms import Ours, Weights, to_theirs
from components.model.huggingface.kinds import BY_TYPE, CLASSIFIER, LANGUAGE, POOLING, SCALAR, Kind
from components.model.huggingface.weights import FolderWeights, Renamed, write_weights
from components.model.transformer import Transformer
from components.publish import publish, publish_json
from components.tokenizer.special import BOS, END, EOS, PAD

AnyModel: TypeAlias = Transformer | EncoderDecoder | ScalarModel | ClassifierModel
M = TypeVar("M", Transformer, EncoderDecoder, ScalarModel, ClassifierModel)

HEADS = ("lm_head.", "score.", "cls.", "classifier.", "dense.", "final_logits_bias")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def save_model(
    model: AnyModel | tuple[ModelConfig, Weights],
    folder: Path,
    tokenizer: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shard_bytes: int = 0,
) -> str:
    """Writes a model folder.

    A config that no class of transformers can express is written all the same, as `model_type: headwater`, which all
    commands of ours read.

    Args:
        model: A model, or its config with a state dict (what a sharded engine gathers).
        folder: Where to; made if it is not there. `config.json` is written last.
        tokenizer: Folder whose tokenizer files travel with the model, and its generation_config.json if it has one.
        dtype: Type of the weights on disk.
        shard_bytes: Most bytes of one weight file; 0 writes one file.

    Returns:
        Empty if transformers can load the folder; else a sentence that names the setting it does not have.

    Raises:
        StepError: If the tokenizer is not there or has more tokens than the model has embeddings.
    """
    config, state = model if isinstance(model, tuple) else (model.config, model.state_dict())
    head = head_of(state)
    kind, obstacle = kind_for(config, head)
    copy_tokenizer(tokenizer, folder, config.vocab_size)
    tensors = dict(state) if kind is None else to_hugging_face(config, state)
    write_weights(folder, tensors, dtype, shard_bytes)
    if head == LANGUAGE and config.causal:
        first = {"decoder_start_token_id": BOS} if config.family == "encoder-decoder" else {}
        publish_json(folder / "generation_config.json", {**generation_values(tokenizer), **first})
    type_name = str(dtype).removeprefix("torch.")
    if kind is None:
        publish_json(folder / "config.json", _own_values(config, head, type_name))
        return f"{no_class(obstacle)} The folder {folder} is one for headwater alone."
    publish_json(folder / "config.json", hugging_face_config(config, head, type_name, state))
    return ""


def load_transformer(folder: Path) -> Transformer:
    """Loads a decoder or encoder in fp32, whoever wrote it. A scalar model's folder gives its backbone with an output.

    Raises:
        StepError: If the folder is no model, or of a kind whose logits ours would not equal.
    """
    return _load(folder, Transformer, LANGUAGE, lambda family: family != "encoder-decoder", "an encoder-decoder")


def load_encoder_decoder(folder: Path) -> EncoderDecoder:
    """Loads an encoder-decoder in fp32, whoever wrote it.

    Raises:
        StepError: As `load_transformer`.
    """
    return _load(folder, EncoderDecoder, LANGUAGE, lambda family: family == "encoder-decoder", "no encoder-decoder")


def load_scalar(folder: Path) -> ScalarModel:
    """Loads a scalar model (a reward model or a critic) in fp32.

    Raises:
        StepError: If the folder is no model, or has no scalar head.
    """
    score = FolderWeights(folder).get("score.weight") if (folder / "config.json").is_file() else None
    config = read_config(folder)
    if score is None or score.shape[0] != 1:
        raise unusable(folder, "has no score.weight of one row: it is not a reward model")
    return _load(folder, ScalarModel, SCALAR, lambda family: family in ("llama", "gpt2"), f"a {config.family}")


def load_classifier(folder: Path) -> ClassifierModel:
    """Loads an encoder with a classifier in fp32, as many labels as its weights have.

    Raises:
        StepError: If the folder is no model, or has no classifier.
    """
    read_config(folder)
    weight = FolderWeights(folder).get("classifier.weight")
    if weight is None:
        raise unusable(folder, "has no classifier.weight: it is not a classifier")
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if values.get("classifier_pooling", POOLING) != POOLING:
        raise unlike(folder, f"has classifier_pooling={values['classifier_pooling']}")
    labels = weight.shape[0]

    def build(config: ModelConfig) -> ClassifierModel:
        return ClassifierModel(config, labels)

    return _load(folder, build, CLASSIFIER, lambda family: family in ENCODERS, "no encoder")


def read_config(folder: Path) -> ModelConfig:
    """The shape of the model in a folder, read from its config.json and, for what that leaves open, from its weights.

    Raises:
        StepError: If there is none, or it has something that would make our logits differ from its author's.
    """
    return _open(folder)[1]


def hugging_face_config(
    config: ModelConfig, head: str = LANGUAGE, dtype: str = "float32", state: Weights | None = None
) -> dict[str, object]:
    """The content of config.json.

    Args:
        config: Shape of the model.
        head: What stands on the backbone.
        dtype: Type of the weights on disk.
        state: The weights; tells how many labels a classifier has.

    Raises:
        StepError: If no class has this config.
    """
    kind, obstacle = kind_for(config, head)
    if kind is None:
        raise StepError(no_class(obstacle), where="model", fix="choose another value for this setting")
    values = write_values(kind, config, head, dtype)
    if head == SCALAR:
        values |= {"id2label": {"0": "score"}, "label2id": {"score": 0}}
    if head == CLASSIFIER and state is not None:
        labels = [f"LABEL_{number}" for number in range(state["classifier.weight"].shape[0])]
        values |= {"id2label": {str(number): name for number, name in enumerate(labels)}}
        values |= {"label2id": {name: number for number, name in enumerate(labels)}}
    return values


def to_hugging_face(config: ModelConfig, state: Weights) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names and in its layout, as views where that is possible.

    Raises:
        StepError: If no class has this config.
    """
    kind, obstacle = kind_for(config, head_of(state))
    if kind is None:
        raise StepError(no_class(obstacle), where="model", fix="choose another value for this setting")
    tensors = to_theirs(config, kind.rules, state)
    if not config.tie_embeddings:
        # A config that does not tie the output ties nothing else either: both stacks of a BART want their own table.
        tensors |= {name: tensors[first].clone() for name, first in kind.copies.items() if first in tensors}
    if kind.zeros and kind.zeros.theirs not in tensors:
        tensors[kind.zeros.theirs] = torch.zeros(kind.zeros.shape(config))
    return tensors


def from_hugging_face(config: ModelConfig, tensors: Weights, wanted: Iterable[str]) -> Weights:
    """Hugging Face's weights as ours, each read when it is asked for. The inverse of `to_hugging_face`.

    Args:
        config: Shape of the model.
        tensors: Their weights.
        wanted: Names of our parameters.
    """
    names = list(wanted)
    kind, _ = kind_for(config, head_of(names))
    assert kind is not None
    return Ours(config, kind.rules, tensors, names)


def generation_values(tokenizer: Path) -> dict[str, object]:
    """The content of generation_config.json: where replies begin and end, and what the base model's says beside."""
    path = tokenizer / "generation_config.json"
    values: dict[str, object] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {**values, "bos_token_id": BOS, "eos_token_id": [EOS, END], "pad_token_id": PAD}


def no_class(obstacle: str) -> str:
    """The sentence about a model that transformers cannot have."""
    return f"No class of transformers has {obstacle} together with the model's other settings."


def check_vocabulary(path: Path, vocab_size: int) -> None:
    """Refuses a tokenizer whose ids would fall outside the model's embedding table.

    Args:
        path: A tokenizer.json.
        vocab_size: Rows of the embedding table; more than the tokenizer has (padding) is fine.

    Raises:
        StepError: If an id of the tokenizer has no row.
    """
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True).values()
    largest = max(ids, default=0)
    if largest >= vocab_size:
        raise StepError(
            f"The tokenizer has ids up to {largest}, the model only {vocab_size} embeddings.",
            where=str(path),
            fix="use the tokenizer the model was trained with",
        )


def copy_tokenizer(source: Path, folder: Path, vocab_size: int) -> None:
    """Copies a tokenizer's files into a model folder.

    Raises:
        StepError: If there is no tokenizer.json, or it has more tokens than the model has embeddings.
    """
    path = source / "tokenizer.json"
    if not path.is_file():
        raise StepError(
            "A model folder needs its tokenizer.",
            where=f"{path} does not exist",
            fix="give the folder that the tokenizer step wrote, or a model folder",
        )
    check_vocabulary(path, vocab_size)
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            with publish(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)


def _load(folder: Path, build: Callable[[ModelConfig], M], head: str, fits: Callable[[str], bool], otherwise: str) -> M:
    """Builds a model around a folder's weights, without drawing any first."""
    kind, config, tensors = _open(folder)
    if not fits(config.family):
        raise unusable(folder, f"is {otherwise}, which does not fit here")
    with torch.device("meta"):
        model = build(config)
    wanted = list(model.state_dict())
    try:
        if kind is None:
            ready = _ready(tensors, wanted)
        else:
            ours = Ours(config, kind.rules, tensors, wanted)
            ready = _ready(ours, wanted)
            _check_rest(folder, kind, tensors, ours.used)
        model.load_state_dict(ready, assign=True)
    except (KeyError, RuntimeError) as error:
        raise unusable(folder, f"has weights that do not fit its config.json as {head} model ({error})") from error
    return model.requires_grad_(True)


def _ready(weights: Weights, names: Iterable[str]) -> dict[str, Tensor]:
    """Weights for a model of ours to take over as they are."""
    return {name: weights[name].to(torch.float32).contiguous() for name in names}


def _open(folder: Path) -> tuple[Kind | None, ModelConfig, Weights]:
    """Kind (None for our own format), config and weights of a folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise StepError(
            f"{folder} is no model folder: it has no config.json.",
            where=str(folder),
            fix="give the model/ folder of a finished pretrain, sft, reward or ppo step, or a Hugging Face folder",
        )
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.get("model_type") == OWN_TYPE:
        return None, _read_own(folder, values), FolderWeights(folder)
    kind = BY_TYPE.get(values.get("model_type"))
    if kind is None:
        raise unlike(folder, f"has model_type={values.get('model_type')!r}")
    config = read_values(kind, values, folder)
    tensors = _with_prefix(kind, FolderWeights(folder))
    return kind, _settled(folder, kind, config, tensors), tensors


def _settled(folder: Path, kind: Kind, config: ModelConfig, tensors: Weights) -> ModelConfig:
    """The config with what only the weights tell: an output of its own under a config that says tied, a bias."""
    tied = config.tie_embeddings or kind.always_ties
    output = kind.output
    if tied and output in tensors:
        tied = torch.equal(tensors[output], tensors[_table(kind)])
    if not tied and output not in tensors and "score.weight" not in tensors:
        raise unusable(folder, f"has no {output}, though its embeddings are not tied")
    return _without_zeros(kind, dataclasses.replace(config, tie_embeddings=tied), tensors)


def _without_zeros(kind: Kind, config: ModelConfig, tensors: Weights) -> ModelConfig:
    zeros = kind.zeros
    if zeros is None or zeros.theirs not in tensors:
        return config
    tensor = tensors[zeros.theirs]
    if not tensor.any() and tensor.shape == zeros.shape(config):
        return dataclasses.replace(config, **{zeros.ours: type(getattr(config, zeros.ours))(0)})
    return dataclasses.replace(config, **{zeros.ours: getattr(config, zeros.ours) or True})  # type: ignore[arg-type]


def _check_rest(folder: Path, kind: Kind, tensors: Weights, used: set[str]) -> None:
    """Refuses tensors that no parameter of ours took, unless nothing depends on them."""
    others = (kind.output, "score.weight", kind.zeros.theirs if kind.zeros else "score.weight")
    silent = re.compile("|".join((*kind.unread, *map(re.escape, others))))
    for name in sorted(set(tensors) - used):
        first = kind.copies.get(name, "")
        if first in tensors:
            if not torch.equal(tensors[name], tensors[first]):
                raise unusable(folder, f"has {name} that is not equal to {first}")
        elif not silent.fullmatch(name):
            raise unusable(folder, f"has a weight {name} for which its class has no place")


def _table(kind: Kind) -> str:
    """Name of the embedding table."""
    embed = ("backbone.embed", "encoder.embed")
    return next(rule.theirs[0] for rule in kind.rules if rule.ours in embed) + ".weight"


def _with_prefix(kind: Kind, tensors: Weights) -> Weights:
    """The tensors under the names of today: a bare backbone leaves the prefix out, old BERTs say gamma and beta."""
    names = {_modern(name): name for name in tensors}
    if not any(name.startswith(kind.prefix) for name in names):
        names = {name if name.startswith(HEADS) else kind.prefix + name: old for name, old in names.items()}
    return Renamed(tensors, names)


def _modern(name: str) -> str:
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def head_of(names: Container[str]) -> str:
    """What stands on the backbone of a model whose weights have these names of ours."""
    if "score.weight" in names:
        return SCALAR
    return CLASSIFIER if "classifier.weight" in names else LANGUAGE


def name_labels(folder: Path, labels: Sequence[str]) -> None:
    """Writes the labels of a classifier into its folder's config.json, where transformers looks for them."""
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    values["id2label"] = {str(number): label for number, label in enumerate(labels)}
    values["label2id"] = {label: number for number, label in enumerate(labels)}
    publish_json(folder / "config.json", values)


def _own_values(config: ModelConfig, head: str, dtype: str) -> dict[str, object]:
    return {
        "model_type": OWN_TYPE,
        "architectures": [f"Headwater{head.capitalize()}Model"],
        "vocab_size": config.vocab_size,
        "dtype": dtype,
        OWN_TYPE: dataclasses.asdict(config),
    }


def _read_own(folder: Path, values: Mapping[str, object]) -> ModelConfig:
    try:
        return ModelConfig(**values[OWN_TYPE])  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise unusable(folder, f"is of another version of headwater ({error})") from error
