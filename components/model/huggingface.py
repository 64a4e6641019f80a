"""Model folders as Hugging Face writes them, both ways: what training publishes, `transformers` and vLLM load as it is.

    config.json  model.safetensors  generation_config.json  and the tokenizer's files

The class on disk is LlamaForCausalLM, or LlamaForSequenceClassification with one label for a scalar model; its
backbone has the same names, so a reward model's folder loads as a language model too. Weights are fp32 when written;
fp16 and bf16 ones, single file or sharded, are read. Neither direction imports `transformers`: tests do, as the judge.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from components.errors import StepError
from components.model.config import ModelConfig
from components.model.heads import ScalarModel
from components.model.transformer import Transformer
from components.publish import publish, publish_json
from components.tokenizer.special import BOS, END, EOS, PAD

Weights: TypeAlias = Mapping[str, Tensor]
M = TypeVar("M", Transformer, ScalarModel)

CAUSAL_LM, SCALAR = "LlamaForCausalLM", "LlamaForSequenceClassification"
HEADS = {"lm_head.weight": "lm_head.weight", "score.weight": "score.weight"}
TABLES = {"backbone.embed.weight": "model.embed_tokens.weight", "backbone.norm.weight": "model.norm.weight"}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def save_model(model: Transformer | ScalarModel | tuple[ModelConfig, Weights], folder: Path, tokenizer: Path) -> None:
    """Writes a model folder.

    Args:
        model: A model, or its config with a state dict (what a sharded engine gathers).
        folder: Where to; made if it is not there. `config.json` is written last.
        tokenizer: Folder whose tokenizer files travel with the model.

    Raises:
        StepError: If the tokenizer is not there or has more tokens than the model has embeddings.
    """
    config, state = model if isinstance(model, tuple) else (model.config, model.state_dict())
    copy_tokenizer(tokenizer, folder, config.vocab_size)
    tensors = to_hugging_face(config, state)
    with publish(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    scalar = "score.weight" in state
    if not scalar:
        ends = {"bos_token_id": BOS, "eos_token_id": [EOS, END], "pad_token_id": PAD}
        publish_json(folder / "generation_config.json", ends)
    publish_json(folder / "config.json", hugging_face_config(config, scalar))


def load_transformer(folder: Path) -> Transformer:
    """Loads a language model of the Llama type in fp32, whoever wrote it. A scalar model's folder gives its backbone.

    Raises:
        StepError: If the folder is no model, or of a kind whose logits ours would not equal.
    """
    config = read_config(folder)
    tensors = _read_tensors(folder)
    tensors.pop("score.weight", None)
    if config.tie_embeddings:
        tensors.pop("lm_head.weight", None)
    elif "lm_head.weight" not in tensors:
        raise _unusable(folder, "has no lm_head.weight, though its embeddings are not tied")
    return _filled(Transformer, config, tensors, folder)


def load_scalar(folder: Path) -> ScalarModel:
    """Loads a scalar model (a reward model or a critic) in fp32.

    Raises:
        StepError: If the folder is no model, or has no scalar head.
    """
    config = read_config(folder)
    tensors = _read_tensors(folder)
    tensors.pop("lm_head.weight", None)
    score = tensors.get("score.weight")
    if score is None or score.shape[0] != 1:
        raise _unusable(folder, "has no score.weight of one row: it is not a reward model")
    return _filled(ScalarModel, config, tensors, folder)


def hugging_face_config(config: ModelConfig, scalar: bool) -> dict[str, object]:
    """The content of config.json. The rotary base is written twice: before and since transformers 5."""
    fields: dict[str, object] = {
        "architectures": [SCALAR if scalar else CAUSAL_LM],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    if scalar:
        fields |= {"id2label": {"0": "score"}, "label2id": {"score": 0}}
    return fields


def read_config(folder: Path) -> ModelConfig:
    """The shape of the model in a folder, read from its config.json.

    Raises:
        StepError: If there is none, or it names something the llama family does not have.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise StepError(
            f"{folder} is no model folder: it has no config.json.",
            where=str(folder),
            fix="give the model/ folder of a finished pretrain, sft, reward or ppo step, or a Hugging Face folder",
        )
    values = json.loads(path.read_text(encoding="utf-8"))
    _refuse_foreign(folder, values)
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    heads = values["num_attention_heads"]
    return ModelConfig(
        family="llama",
        vocab_size=values["vocab_size"],
        dim=values["hidden_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=values.get("num_key_value_heads") or heads,
        ffn_dim=values["intermediate_size"],
        max_length=values.get("max_position_embeddings", 2048),
        rope_theta=float(rope.get("rope_theta") or values.get("rope_theta") or 10000.0),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        tie_embeddings=values.get("tie_word_embeddings", False),
    )


def _refuse_foreign(folder: Path, values: Mapping[str, object]) -> None:
    """Names the first thing in a config that would make our logits differ from its author's."""
    if values.get("model_type") != "llama":
        raise _unusable(folder, f"has model_type={values.get('model_type')!r}")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = (rope.get("rope_type") or rope.get("type") or "default") if isinstance(rope, Mapping) else rope
    if kind != "default":
        raise _unusable(folder, f"scales its rotary positions ({kind})")
    for name, wanted in (("attention_bias", False), ("mlp_bias", False), ("hidden_act", "silu")):
        if values.get(name, wanted) != wanted:
            raise _unusable(folder, f"has {name}={values[name]}")
    dim, heads = values["hidden_size"], values["num_attention_heads"]
    head_dim = values.get("head_dim")
    if head_dim is not None and isinstance(dim, int) and isinstance(heads, int) and head_dim != dim // heads:
        raise _unusable(folder, f"has head_dim={head_dim}, not hidden_size / num_attention_heads={dim // heads}")


def _unusable(folder: Path, why: str) -> StepError:
    return StepError(
        f"The model in {folder} {why}.",
        where=str(folder / "config.json"),
        fix="give a folder of the plain Llama type (LlamaForCausalLM, no rotary scaling, no biases)",
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


def to_hugging_face(config: ModelConfig, state: Weights) -> dict[str, Tensor]:
    """Renames and splits our weights into Hugging Face's, fp32 and contiguous on the CPU."""
    heads, width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    tensors = {theirs: state[ours] for ours, theirs in (TABLES | HEADS).items() if ours in state}
    for layer in range(config.num_layers):
        ours, theirs = _prefixes(layer)
        for name, other in _BLOCK.items():
            tensors[theirs + other] = state[ours + name]
        query, key, value = torch.split(state[ours + "attention.qkv.weight"], [heads, width, width])
        gate, up = state[ours + "ffn.gate_up.weight"].chunk(2)
        parts = {"q_proj": query, "k_proj": key, "v_proj": value}
        tensors |= {f"{theirs}self_attn.{name}.weight": part for name, part in parts.items()}
        tensors |= {f"{theirs}mlp.gate_proj.weight": gate, f"{theirs}mlp.up_proj.weight": up}
    return {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}


def from_hugging_face(config: ModelConfig, tensors: Weights) -> dict[str, Tensor]:
    """Renames and fuses Hugging Face's weights into ours, fp32. The inverse of `to_hugging_face`."""
    state = {ours: tensors[theirs] for ours, theirs in (TABLES | HEADS).items() if theirs in tensors}
    for layer in range(config.num_layers):
        ours, theirs = _prefixes(layer)
        for name, other in _BLOCK.items():
            state[ours + name] = tensors[theirs + other]
        attention = [tensors[f"{theirs}self_attn.{name}_proj.weight"] for name in "qkv"]
        gate_up = [tensors[f"{theirs}mlp.{name}_proj.weight"] for name in ("gate", "up")]
        state[ours + "attention.qkv.weight"] = torch.cat(attention)
        state[ours + "ffn.gate_up.weight"] = torch.cat(gate_up)
    return {name: tensor.to(torch.float32) for name, tensor in state.items()}


_BLOCK = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn.down.weight": "mlp.down_proj.weight",
}


def _prefixes(layer: int) -> tuple[str, str]:
    return f"backbone.blocks.{layer}.", f"model.layers.{layer}."


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder: one safetensors file, or the shards that an index names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not (folder / name).is_file():
            raise _unusable(folder, f"has no {name}")
        try:
            with safe_open(folder / name, framework="pt") as file:
                tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
        except SafetensorError as error:
            raise _unusable(folder, f"has a damaged {name} ({error})") from error
    return tensors


def _filled(kind: type[M], config: ModelConfig, tensors: Weights, folder: Path) -> M:
    """Builds a model around weights, without drawing any first."""
    with torch.device("meta"):
        model = kind(config)
    try:
        model.load_state_dict(from_hugging_face(config, tensors), assign=True)
    except (KeyError, RuntimeError) as error:
        raise _unusable(folder, f"has weights that do not fit its config.json ({error})") from error
    return model.requires_grad_(True)
