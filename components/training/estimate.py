"""Memory of one training rank, part by part, before there is a model: what fits is known before anything starts.

Counted are the numbers that the engines keep (weights, gradients, optimizer state, by ZeRO stage and offload), what a
forward pass leaves for the backward pass, and the buffers around them. The logits are not among them: the loss is
computed a chunk of rows at a time. A test holds the sum against the peak that a training process really had, for the
plain engine and for DeepSpeed; it lies within `BAND` of it. On other devices the allocator adds its own share.

Sources of the rules: ZeRO (1910.02054, section 3), selective recomputation (2205.05198, section 4), and the code of the
engines beside it.

Shapes: B rows of a micro-batch, T tokens, D model width, H query heads, K key-value heads, C width of a head, F width
of a feed-forward layer, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.model.config import ModelConfig, resolved
from components.model.counting import CHUNK_LOGITS, num_block_weights, num_parameters, stacks
from components.training.config import TrainingConfig

BAND = 0.25
"""How far the sum may lie from the measured peak, as a share of it."""
BUCKET_ELEMENTS = 100_000_000
"""Largest buffer of the communication between ranks, in numbers: what the engine asks DeepSpeed for."""
LIVE_ELEMENTS = 1_000_000_000
"""DeepSpeed keeps so many gathered weights at stage 3 (`stage3_max_live_parameters`)."""
RUNTIME_BYTES = {"cpu": {"plain": 360 << 20, "deepspeed": 620 << 20}, "cuda": {"plain": 1 << 30, "deepspeed": 2 << 30}}
"""What a process takes before it has a model: torch, DeepSpeed, on CUDA the context and the communicators."""
GIB = float(1 << 30)


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank, by part.

    Attributes:
        runtime: Libraries and their context.
        weights: Weights that forward and backward use, and their fp32 masters.
        gathered: Weights of other ranks that are here while they are used (stage 3).
        gradients: Of the weights.
        optimizer: Moments.
        buckets: Buffers of the communication between ranks.
        activations: What the forward pass keeps for the backward pass.
        loss: Around the output projection.
        checkpoint: The copy that is written in the background, on rank 0; in the memory of the host.
        offloaded: What the device does not hold, in the memory of the host.
    """

    runtime: float
    weights: float
    gathered: float
    gradients: float
    optimizer: float
    buckets: float
    activations: float
    loss: float
    checkpoint: float
    offloaded: float
    on_cpu: bool

    @property
    def device(self) -> float:
        """Bytes on the device that computes; on a CPU that is the host."""
        parts = (self.runtime, self.weights, self.gathered, self.gradients, self.optimizer)
        total = sum(parts) + self.buckets + self.activations + self.loss
        return total + (self.host if self.on_cpu else 0.0)

    @property
    def host(self) -> float:
        """Bytes in the memory of the host, beside a device."""
        return self.checkpoint + self.offloaded


def estimate_memory(config: ModelConfig, training: TrainingConfig, length: int, on_cpu: bool) -> Memory:
    """Memory of rank 0, the fullest.

    Args:
        config: The model, with its vocabulary.
        training: Engine, stage, ranks, micro-batch, precision, optimizer, recomputation.
        length: Tokens of a sequence.
        on_cpu: Whether ranks compute on CPUs.
    """
    config = resolved(config)
    total = num_parameters(config) / training.tensor_parallel
    stage = 0 if training.engine == "plain" else training.zero_stage
    shard = total / max(1, training.ranks // training.tensor_parallel) if stage else total
    half = training.precision in ("bf16", "fp16") or (training.precision == "auto" and not on_cpu)
    size = 2 if half else 4
    moments = _moment_bytes(config, training) * shard
    masters = 4 * shard if stage else 0.0
    weights = {0: total * (6 if half else 4), 3: size * shard}.get(stage, size * total)
    gradients = {0: 4 * total, 1: size * total + 4 * shard}.get(stage, 4 * shard)
    away = training.offload != "none" and stage > 0
    moved = masters + moments + (gradients if stage >= 2 else 0.0) + (weights if stage == 3 else 0.0) if away else 0.0
    tokens = training.micro_batch * length / training.sequence_parallel
    return Memory(
        runtime=RUNTIME_BYTES["cpu" if on_cpu else "cuda"][training.engine],
        weights=0.0 if away and stage == 3 else weights + (0.0 if away else masters),
        gathered=size * (min(total, LIVE_ELEMENTS) - shard) if stage == 3 else 0.0,
        gradients=0.0 if away and stage >= 2 else gradients,
        optimizer=0.0 if away else moments,
        buckets=size * min(total, BUCKET_ELEMENTS) if stage else 0.0,
        activations=size * tokens * _kept_per_token(config, training),
        loss=_loss_bytes(config, tokens, size, on_cpu),
        checkpoint=(4 + _moment_bytes(config, training)) * total,
        offloaded=0.0 if training.offload == "nvme" else moved,
        on_cpu=on_cpu,
    )


def _moment_bytes(config: ModelConfig, training: TrainingConfig) -> float:
    """Bytes of optimizer state for each parameter: two fp32 moments, two of a byte and a bit, or Muon's single one."""
    if training.optimizer == "adamw8bit":
        return 2.0 + 2 * 4 / 256  # a scale for every 256 values
    if training.optimizer == "muon":
        return 8.0 - 4.0 * min(1.0, num_block_weights(config) / num_parameters(config))
    return 8.0


def _kept_per_token(config: ModelConfig, training: TrainingConfig) -> float:
    """Numbers that a forward pass keeps for each token of a micro-batch."""
    kept = 0.0
    for layers, cross in stacks(config):
        inside = _inside_block(config, cross) / training.tensor_parallel
        # Recomputed, a block keeps what enters it, and the inside of one block at a time.
        kept += layers * config.dim + inside if training.recompute == "blocks" else layers * inside
    return kept + 2 * config.dim


def _inside_block(config: ModelConfig, cross: bool) -> float:
    """Numbers that one block keeps for each token: the inputs of its matrices, norms, kernel and activation."""
    queries, shared = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    attention = 2 * config.dim + 3 * queries + 3 * shared  # projected, turned, and what the kernel gives
    experts = config.experts_per_token if config.num_experts else 1
    ffn = 2 * config.dim + experts * (4 if config.gated else 2) * config.ffn_dim
    dropped = (2 + cross) * config.dim / 2 if config.dropout else 0.0
    return (2 if cross else 1) * attention + ffn + dropped


def _loss_bytes(config: ModelConfig, tokens: float, size: int, on_cpu: bool) -> float:
    """A chunk of logits and its gradient, the gradient of the projection, and that of the last hidden states."""
    chunk = max(64 * config.vocab_size, CHUNK_LOGITS) if on_cpu else min(tokens, 4096.0) * config.vocab_size
    widest = max(2 * config.ffn_dim, config.dim) + 2 * config.dim  # gradients on their way through one block
    return 8.0 * chunk + 4.0 * config.vocab_size * config.dim + size * tokens * widest
