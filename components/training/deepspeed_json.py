"""The JSON that DeepSpeed wants, generated out of `TrainingConfig`, and what DeepSpeed made of it.

It is never written by hand. What follows from the training config is derived; a user's table (`training.deepspeed`)
adds to it and cannot contradict it (`deepspeed_table`). After DeepSpeed has read it, every setting is read back and
compared: one that it ignores or changes is an error, not a surprise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from components.training.config import TrainingConfig
from components.training.deepspeed_table import Value, merged
from components.training.estimate import BUCKET_ELEMENTS


def deepspeed_json(
    config: TrainingConfig,
    world_size: int,
    dtype: torch.dtype,
    num_parameters: int,
    on_cpu: bool = True,
    tensor_parallel: Value = None,
) -> dict[str, Value]:
    """The DeepSpeed configuration of a training config.

    Args:
        config: Stage, clipping, micro-batch, offload and the user's table.
        world_size: Number of ranks.
        dtype: What forward and backward run in. At stage 0 half precision is autocast over fp32 weights; above, weights
            in half precision with fp32 masters.
        num_parameters: Bounds the communication buckets: DeepSpeed allocates them whole.
        on_cpu: Whether the ranks compute on CPUs, where there is no pinned memory.
        tensor_parallel: The plan of `matrices.share_matrices`, where ranks share matrices.

    Returns:
        A dict to pass as `config` to `deepspeed.initialize`.
    """
    bucket = 2 * max(1, min(BUCKET_ELEMENTS, num_parameters) // 2)
    sharded = config.zero_stage > 0
    zero: dict[str, Value] = {
        "stage": config.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "overlap_comm": False,
        **_offload(config, on_cpu),
    }
    result: dict[str, Value] = {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": 1,
        "train_batch_size": config.micro_batch * world_size,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.clip_grad if sharded else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
        "zero_optimization": zero,
    }
    if tensor_parallel is not None:
        result["tensor_parallel"] = tensor_parallel
        del result["train_batch_size"]  # DeepSpeed counts now processes, now copies of the model, by stage
    if dtype == torch.bfloat16 and sharded:
        result["bf16"] = {"enabled": True, "check_grad_overflow": True}
    elif dtype == torch.float16 and sharded:
        result["fp16"] = {"enabled": True, "loss_scale": 1.0}  # the scale is ours: see `precision.LossScale`
    elif dtype == torch.bfloat16:
        result["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    if dtype != torch.float32 and sharded:
        result["data_types"] = {"grad_accum_dtype": "fp32"}
    return merged(result, config.deepspeed)


def _offload(config: TrainingConfig, on_cpu: bool) -> dict[str, Value]:
    """Where ZeRO keeps optimizer state, and at stage 3 weights, while they are not in use."""
    if config.offload == "none":
        return {}
    place: dict[str, Value] = {"device": config.offload, "pin_memory": not on_cpu}
    if config.offload == "nvme":
        place["nvme_path"] = config.offload_folder
    kept: dict[str, Value] = {"offload_optimizer": dict(place)}
    if config.zero_stage == 3:
        kept["offload_param"] = dict(place)
    return kept


def effective_json(engine: Any, wanted: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ANN401  (DeepSpeed has no types)
    """The settings named in `wanted` as the engine holds them after it was made."""
    held = _held(engine)
    return {name: _same_names(value, held.get(name)) for name, value in wanted.items()} | {
        name: {"enabled": True} for name in ("bf16", "fp16", "torch_autocast") if name in held and name not in wanted
    }


def _held(engine: Any) -> dict[str, Value]:  # noqa: ANN401
    config = engine._config
    result: dict[str, Value] = {
        "train_micro_batch_size_per_gpu": engine.train_micro_batch_size_per_gpu(),
        "gradient_accumulation_steps": engine.gradient_accumulation_steps(),
        "train_batch_size": engine.train_batch_size(),
        "managed_gradient_accumulation": engine.managed_gradient_accumulation(),
        "gradient_clipping": engine.gradient_clipping(),
        "zero_allow_untested_optimizer": engine.zero_allow_untested_optimizer(),
        "zero_force_ds_cpu_optimizer": engine.zero_force_ds_cpu_optimizer(),
        "steps_per_print": engine.steps_per_print(),
        "wall_clock_breakdown": engine.wall_clock_breakdown(),
        "memory_breakdown": engine.memory_breakdown(),
        "zero_optimization": _both_names(config.zero_config),
        "aio": dict(config.aio_config),
        "tensor_parallel": {
            "autotp_size": engine.autotp_size(),
            "partition_config": config.tensor_parallel_config.partition_config,
        },
        "data_types": {"grad_accum_dtype": config.grad_accum_dtype},
    }
    if engine.bfloat16_enabled():
        result["bf16"] = {"enabled": True, "check_grad_overflow": config.bfloat16_config.check_grad_overflow}
    if engine.fp16_enabled():
        result["fp16"] = {"enabled": True, "loss_scale": engine.loss_scale()}
    if engine.torch_autocast_enabled():
        dtype = str(engine.torch_autocast_dtype()).removeprefix("torch.")
        result["torch_autocast"] = {"enabled": True, "dtype": dtype}
    return result


def _both_names(section: Any) -> dict[str, Value]:  # noqa: ANN401
    """A section under the names of its fields and under those that users write, `stage3_...` among them."""
    return {**section.model_dump(mode="json"), **section.model_dump(mode="json", by_alias=True)}


def _same_names(wanted: Value, held: Value) -> Value:
    """What is held under the names that are wanted: DeepSpeed fills in defaults for all others."""
    if not isinstance(wanted, dict) or not isinstance(held, dict):
        return held
    return {name: _same_names(value, held.get(name)) for name, value in wanted.items()}


def compare(wanted: Mapping[str, Value], effective: Mapping[str, Value]) -> None:
    """Raises if DeepSpeed holds another value than the one it was given.

    Raises:
        RuntimeError: Names each such setting.
    """
    different = _differences(wanted, effective, "")
    if different:
        raise RuntimeError(f"DeepSpeed changed its configuration: {'; '.join(different)}")


def _differences(wanted: Mapping[str, Value], effective: Mapping[str, Value], prefix: str) -> list[str]:
    found: list[str] = []
    for name in sorted(set(wanted) | set(effective)):
        one, other = wanted.get(name), effective.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            found.append(f"{prefix}{name}: {one} became {other}")
    return found
