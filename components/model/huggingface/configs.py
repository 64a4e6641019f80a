"""Our config to config.json and back, by the tables of `kinds`.

Whether a class can express a config is found out, not listed: it is written, read back and compared. So a setting that
a table has no place for can never be lost silently, and the refusal names it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path

from components.errors import StepError
from components.model.config import ModelConfig, resolved
from components.model.huggingface.kinds import BY_TYPE, KINDS, LANGUAGE, NEEDED, Field, Kind, Values
from components.tokenizer.special import BOS, EOS, PAD

OWN_TYPE = "headwater"
_UNSET = {name for name, field in ModelConfig.__dataclass_fields__.items() if field.default is None}


class UnlikeOursError(StepError):
    """The model of a folder is none that ours equals; transformers may have a class for it."""


def unusable(folder: Path, why: str) -> StepError:
    """The refusal of a folder that is damaged, or does not hold what is asked for."""
    return StepError(
        f"The model in {folder} {why}.",
        where=str(folder / "config.json"),
        fix="give the model/ folder of a finished step, or a Hugging Face folder with safetensors",
    )


def unlike(folder: Path, why: str) -> UnlikeOursError:
    """The refusal of a folder whose model ours would not equal."""
    return UnlikeOursError(
        f"The model in {folder} {why}, which ours has not.",
        where=str(folder / "config.json"),
        fix=f"give a folder of one of the model types {', '.join(BY_TYPE)}, without the setting that is named here",
    )


def kind_for(config: ModelConfig, head: str = LANGUAGE) -> tuple[Kind | None, str]:
    """The class that a model is written as.

    Args:
        config: Shape of the model.
        head: What stands on its backbone.

    Returns:
        The kind; or None with the name of the setting that keeps the nearest class from it.
    """
    nearest: list[str] = []
    for kind in KINDS:
        differing = lost_fields(kind, config)
        if head in kind.heads and not differing:
            return kind, ""
        if _is_sort(kind.family, config) and (not nearest or len(differing) < len(nearest)):
            nearest = differing
    return None, f"model.{nearest[0]}={getattr(resolved(config), nearest[0])}" if nearest else f"a {head} head"


def lost_fields(kind: Kind, config: ModelConfig) -> list[str]:
    """Our settings that would not be the same after a way through a class's config.json."""
    if not _is_sort(kind.family, config):
        return ["family"]
    own = _own_values(config)
    said: dict[str, object] = {field.ours: min(field.words or {}) for field in kind.fields if _has_no_word(field, own)}
    said |= {name: other for name, (value, other) in kind.foreign.items() if own[name] == value}
    sayable = dataclasses.replace(config, **said)  # type: ignore[arg-type]
    read = read_values(kind, write_values(kind, sayable), Path("config.json"))
    if kind.zeros:  # of this the weights tell
        read = dataclasses.replace(read, **{kind.zeros.ours: getattr(config, kind.zeros.ours)})
    back = _essence(read)
    return [name for name, value in _essence(config).items() if name not in back or back[name] != value]


def write_values(kind: Kind, config: ModelConfig, head: str = LANGUAGE, dtype: str = "float32") -> dict[str, object]:
    """The content of config.json of one class."""
    own = _own_values(config)
    values: dict[str, object] = {"architectures": [kind.heads.get(head, "")], "model_type": kind.model_type}
    for field in kind.fields:
        value = own[field.ours] if field.words is None else field.words[str(own[field.ours])][0]
        if isinstance(value, int) and value < field.least:
            value = field.least
        values |= dict.fromkeys((field.theirs, *field.twins), value)
    values |= {name: allowed[0] for name, allowed in kind.wanted.items()}
    values |= kind.told
    values |= _write_rope(config) if kind.rope_theta else {}
    values |= {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "dtype": dtype, "torch_dtype": dtype}
    if kind.family == "encoder-decoder":
        values |= {"is_encoder_decoder": True, "decoder_start_token_id": BOS, "forced_eos_token_id": None}
    return values


def read_values(kind: Kind, values: Values, folder: Path) -> ModelConfig:
    """The config of a model in our words.

    Raises:
        StepError: If a setting would make our logits differ from its author's, or one is missing.
    """
    read = {field.ours: _read_field(field, values, folder) for field in kind.fields}
    for name, value in kind.same.items():
        read[name] = value(read) if callable(value) else value
    for name, allowed in kind.wanted.items():
        if values.get(name, allowed[0]) not in allowed:
            raise unlike(folder, f"has {name}={values[name]}")
    if values.get("quantization_config"):
        raise unlike(folder, "has a quantization_config")
    if kind.rope_theta:
        read |= _read_rope(values, kind.rope_theta, folder)
    for name, (value, _) in kind.foreign.items():
        if read[name] == value:
            raise unlike(folder, f"has what we call {name}={read[name]}, and computes it otherwise")
    return shortest(ModelConfig(family=kind.family, **read))  # type: ignore[arg-type]


def shortest(config: ModelConfig) -> ModelConfig:
    """The same config saying only what its family does not."""
    plain, full = resolved(dataclasses.replace(config, **dict.fromkeys(_UNSET))), resolved(config)  # type: ignore[arg-type]
    unset: dict[str, object] = {name: None for name in _UNSET if getattr(plain, name) == getattr(full, name)}
    if config.head_dim * config.num_heads == config.dim:
        unset["head_width"] = 0
    if config.num_encoder_layers == config.num_layers:
        unset["num_encoder_layers"] = 0
    return dataclasses.replace(config, **unset)  # type: ignore[arg-type]


def _read_field(field: Field, values: Values, folder: Path) -> object:
    value = values.get(field.theirs)
    if value is None:
        if field.default is NEEDED:
            raise unusable(folder, f"has no {field.theirs} in its config.json")
        value = field.default(values) if callable(field.default) else field.default
    for twin in field.twins:
        other = values.get(twin)
        if other is None:
            other = value if field.default is NEEDED or callable(field.default) else field.default
        if other != value:
            raise unlike(folder, f"has {twin}={other}, but {field.theirs}={value}")
    if field.words is None:
        return value
    found = [own for own, theirs in field.words.items() if value in theirs]
    if not found:
        raise unlike(folder, f"has {field.theirs}={value}")
    return found[0]


def _write_rope(config: ModelConfig) -> dict[str, object]:
    """The rotary settings, written twice: for transformers before and since 5."""
    scaling: dict[str, object] = {"rope_type": "default"}
    original = config.rope_original_length or round(config.max_length / config.rope_factor)
    if config.rope_scaling != "none":
        scaling = {"rope_type": config.rope_scaling, "factor": config.rope_factor}
        scaling["original_max_position_embeddings"] = original
    if config.rope_scaling == "llama3":
        scaling |= {"low_freq_factor": config.rope_low_freq, "high_freq_factor": config.rope_high_freq}
    if config.rope_scaling == "yarn":
        scaling |= {"beta_fast": config.rope_beta_fast, "beta_slow": config.rope_beta_slow}
        scaling |= {"attention_factor": config.rope_attention_factor} if config.rope_attention_factor else {}
    values: dict[str, object] = {"rope_theta": config.rope_theta}
    values["rope_parameters"] = {**scaling, "rope_theta": config.rope_theta}
    return values if config.rope_scaling == "none" else {**values, "rope_scaling": scaling}


def _read_rope(values: Values, default_theta: float, folder: Path) -> dict[str, object]:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise unlike(folder, f"has rope_parameters={rope}")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ("default", "llama3", "yarn"):
        raise unlike(folder, f"scales its rotary positions ({kind})")
    for name, wanted in (("partial_rotary_factor", 1.0), ("truncate", True)):
        if rope.get(name, values.get(name, wanted)) not in (wanted, None):
            raise unlike(folder, f"has {name}={rope.get(name, values.get(name))}")
    theta = rope.get("rope_theta") or values.get("rope_theta") or default_theta
    read: dict[str, object] = {"rope_theta": float(str(theta))}
    if kind == "default":
        return read
    length = values.get("max_position_embeddings")
    original = rope.get("original_max_position_embeddings") or length
    factor = rope.get("factor") or float(str(length)) / float(str(original))
    read |= {"rope_scaling": kind, "rope_factor": float(factor), "rope_original_length": original}
    if kind == "llama3":
        return {**read, "rope_low_freq": rope["low_freq_factor"], "rope_high_freq": rope["high_freq_factor"]}
    read |= {"rope_beta_fast": rope.get("beta_fast") or 32.0, "rope_beta_slow": rope.get("beta_slow") or 1.0}
    return {**read, "rope_attention_factor": _attention_factor(rope, float(factor))}


def _attention_factor(rope: Values, factor: float) -> float:
    """What YaRN multiplies queries and keys by; 0 where that follows from the factor alone."""
    given = rope.get("attention_factor")
    if given is not None:
        return float(str(given))
    weights = [float(str(rope.get(name) or 0)) for name in ("mscale", "mscale_all_dim")]
    if not all(weights) or factor <= 1:
        return 0.0
    above, below = (0.1 * weight * math.log(factor) + 1 for weight in weights)
    return above / below


def _has_no_word(field: Field, own: dict[str, object]) -> bool:
    return field.words is not None and own[field.ours] not in field.words


def _is_sort(family: str, config: ModelConfig) -> bool:
    """Whether a family of classes and a config are of one sort: "llama" and "gpt2" are both decoders."""
    decoders = ("llama", "gpt2")
    return family == config.family or (family in decoders and config.family in decoders)


def _own_values(config: ModelConfig) -> dict[str, object]:
    values = dataclasses.asdict(resolved(config))
    return {**values, "head_width": config.head_dim, "num_encoder_layers": config.encoder_layers}


def _essence(config: ModelConfig) -> dict[str, object]:
    """The settings that logits or the loss depend on, those without influence left out."""
    values = _own_values(config)
    without = {"family", "dropout"}
    original = config.rope_original_length or round(config.max_length / config.rope_factor)
    values["rope_original_length"] = original
    if values["positions"] != "rope":
        without |= {name for name in values if name.startswith("rope_")}
    elif config.rope_scaling == "none":
        without |= {name for name in values if name.startswith("rope_")} - {"rope_theta", "rope_scaling"}
    else:
        other = r"rope_(beta|attention)_.*" if config.rope_scaling == "llama3" else r"rope_(low|high)_.*"
        without |= {name for name in values if re.fullmatch(other, name)}
    if values["positions"] != "t5":
        without |= {"relative_buckets", "relative_max_distance"}
    if not config.num_experts:
        without |= {"experts_per_token", "router_loss"}
    if config.family != "encoder-decoder":
        without |= {"num_encoder_layers", "logits_bias"}
    return {name: value for name, value in values.items() if name not in without}
