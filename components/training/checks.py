"""What a model or a device cannot be asked for, known from settings alone: looked at before any rank starts.

The engines ask again, with the model and the device in hand, for callers that did not.
"""

from __future__ import annotations

from components.configuring import require
from components.errors import MachineError, StepError
from components.model.config import ModelConfig, resolved
from components.training.config import TrainingConfig

_DISTANCES = ("alibi", "t5")


def check_engine(shape: ModelConfig, config: TrainingConfig, length: int, device: str) -> None:
    """Refuses a training that its engine could not begin.

    Args:
        shape: The model's.
        config: Precision, engine, and what ranks share.
        length: Tokens of a sequence.
        device: "cpu" or "cuda".

    Raises:
        StepError: If ranks cannot share the model or its sequences.
        MachineError: If the device cannot train in the precision.
    """
    check_precision(config, device)
    if config.tensor_parallel > 1:
        check_matrices(shape, config.tensor_parallel)
    if config.sequence_parallel > 1:
        check_sequences(shape, config.sequence_parallel)
        check_length(length, config.sequence_parallel)


def refuse_sharing(config: TrainingConfig, stage: str) -> None:
    """Refuses ranks that share matrices or sequences, in the config of a stage other than pretraining.

    Raises:
        ConfigError: If ranks are to share.
    """
    for name in ("tensor_parallel", "sequence_parallel"):
        key, value = f"{stage}.training.{name}", getattr(config, name)
        require(value == 1, key, value, "goes with pretraining alone", f"{key}=1")


def check_precision(config: TrainingConfig, device: str) -> None:
    """Refuses fp16 where DeepSpeed has none."""
    if config.precision == "fp16" and device == "cpu" and config.engine == "deepspeed" and config.zero_stage > 0:
        raise MachineError(
            "DeepSpeed does not train in fp16 on a CPU.",
            where=f"training.precision=fp16 training.zero_stage={config.zero_stage}",
            fix="set training.precision=bf16 or fp32, or training.zero_stage=0",
        )


def check_matrices(shape: ModelConfig, size: int) -> None:
    """Refuses a model whose matrices cannot be cut among `size` ranks exactly."""
    config = resolved(shape)
    rules = (
        (config.family == "encoder-decoder", "it has two stacks"),
        (config.num_kv_heads % size != 0, f"{config.num_kv_heads} key-value heads do not divide over {size} ranks"),
        (config.ffn_dim % size != 0, f"model.ffn_dim={config.ffn_dim} does not divide over {size} ranks"),
        (config.positions in _DISTANCES, f"{config.positions} positions differ between heads"),
        (config.num_experts > 0, "its experts are cut by no rule of the plan"),
        (config.qk_norm, "the norm of queries and keys is shared by heads of all ranks"),
        (config.dropout > 0, "dropout would differ between ranks that have to agree"),
    )
    _refuse(rules, "matrices", f"training.tensor_parallel={size}")


def check_sequences(shape: ModelConfig, size: int) -> None:
    """Refuses a model that cannot work on slices of tokens and groups of heads exactly."""
    config = resolved(shape)
    rules = (
        (config.family == "encoder-decoder", "it has two stacks"),
        (config.num_kv_heads % size != 0, f"{config.num_kv_heads} key-value heads do not divide over {size} ranks"),
        (config.positions in _DISTANCES, f"{config.positions} positions are distances within the whole sequence"),
        (config.num_experts > 0, "experts are balanced over the whole sequence"),
        (config.dropout > 0, "dropout would repeat its pattern in every slice"),
    )
    _refuse(rules, "sequences", f"training.sequence_parallel={size}")


def check_length(length: int, size: int) -> None:
    """Refuses sequences that `size` ranks cannot share."""
    if length % size:
        raise StepError(
            f"Sequences of {length} tokens do not divide over {size} ranks.",
            where=f"training.sequence_parallel={size}",
            fix="choose a length that is a multiple of it",
        )


def _refuse(rules: tuple[tuple[bool, str], ...], what: str, where: str) -> None:
    for broken, reason in rules:
        if broken:
            raise StepError(f"Ranks cannot share the {what} of this model: {reason}.", where, "set it to 1")
