"""Whether a training fits its device, asked before any rank starts; and what to change where it does not.

What there is: the memory of this machine (or of its container), or what `nvidia-smi` tells of its GPUs. The step's own
process often may not see the GPUs of its ranks, which that program does not mind. Where nothing is known, nothing is
refused. An estimate is off by up to `BAND` of itself, so only what cannot fit even then is refused.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from components.errors import MachineError
from components.model.config import ModelConfig
from components.training.config import TrainingConfig
from components.training.estimate import BAND, GIB, Memory, estimate_memory

QUERY_S = 20.0
_FIRST_BF16 = 8.0  # compute capability of Ampere
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Device:
    """What ranks compute on.

    Attributes:
        kind: "cpu" or "cuda".
        name: What it calls itself.
        memory_bytes: Its memory; of a CPU that of the machine, which all ranks there share.
        has_bf16: Whether it computes in bf16.
        sharers: Ranks that may share the memory: cores of a machine, 1 for a GPU.
    """

    kind: str
    name: str
    memory_bytes: float
    has_bf16: bool
    sharers: int


def device_of_ranks(kind: str) -> Device | None:
    """What ranks of a kind ("cpu" or "cuda") find on a machine like this one; None if that is not known."""
    return this_machine() if kind == "cpu" else smallest_gpu()


def this_machine() -> Device:
    """The CPUs of this machine and its memory, within the limit of its control group."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
    memory = pages if limit == "max" else min(pages, int(limit))
    return Device("cpu", "this machine", float(memory), True, len(os.sched_getaffinity(0)))


def smallest_gpu() -> Device | None:
    """The GPU of this machine with the least memory; None if there is none or nobody knows."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    words = [program, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=QUERY_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return min(parse_gpus(done.stdout), key=lambda gpu: gpu.memory_bytes, default=None)


def parse_gpus(table: str) -> list[Device]:
    """GPUs out of the lines "name, MiB, compute capability" of nvidia-smi; lines that say less are passed over."""
    found = []
    for line in table.splitlines():
        name, _, rest = line.rpartition(",")[0].rpartition(",")
        memory, capability = rest.strip(), line.rpartition(",")[2].strip()
        try:
            found.append(Device("cuda", name.strip(), float(memory) * 2**20, float(capability) >= _FIRST_BF16, 1))
        except ValueError:
            continue
    return found


def check_room(config: ModelConfig, training: TrainingConfig, length: int, device: Device | None, key: str) -> None:
    """Refuses a training that its device cannot hold, or cannot compute in the precision asked for.

    Args:
        config: The model, with its vocabulary.
        training: How it is trained.
        length: Tokens of a sequence.
        device: What its ranks compute on; None where that is not known.
        key: Prefix of the training's settings, such as "pretrain.training".

    Raises:
        MachineError: With the estimate, part by part, and the setting that would fit.
    """
    if device is None:
        return
    if training.precision == "bf16" and not device.has_bf16:
        raise MachineError(
            f"{device.name} does not compute in bf16.", f"{key}.precision=bf16", f"set {key}.precision=fp16, or fp32"
        )
    memory = estimate_memory(config, training, length, device.kind == "cpu")
    if fits(memory, training, device):
        return
    sharing = num_sharing(training, device)
    on = f"{sharing} ranks of {device.name}" if sharing > 1 else f"a rank of {device.name}"
    raise MachineError(
        f"Training needs about {needed(memory, training, device) / GIB:.1f} GiB for {on}, which has "
        f"{device.memory_bytes / GIB:.1f} GiB: {in_words(memory)}.",
        f"{key}, {config.family} model of width {config.dim} and {config.num_layers} layers",
        cure(config, training, length, device, key),
    )


def check_folder(model: Path, training: TrainingConfig, length: int, kind: str, key: str) -> None:
    """The same for a model that lies in a folder; types of model that are not ours are not estimated.

    Args:
        model: Its folder.
        training: How it is trained.
        length: Tokens of a sequence.
        kind: What ranks compute on, "cpu" or "cuda".
        key: Prefix of the training's settings.

    Raises:
        StepError: If there is no model that can be read.
        MachineError: As `check_room`.
    """
    from components.model.huggingface import UnlikeOursError, read_config

    try:
        config = read_config(model)
    except UnlikeOursError:
        return
    check_room(config, training, min(length, config.max_length), device_of_ranks(kind), key)


def num_sharing(training: TrainingConfig, device: Device) -> int:
    """Ranks that are taken to share the device's memory."""
    return min(training.ranks, device.sharers)


def needed(memory: Memory, training: TrainingConfig, device: Device) -> float:
    """Bytes that the ranks on one device need together; rank 0 alone holds the copy that is written."""
    others = num_sharing(training, device) - 1
    return memory.device + others * (memory.device - (memory.checkpoint if memory.on_cpu else 0.0))


def fits(memory: Memory, training: TrainingConfig, device: Device) -> bool:
    """False where not even an estimate that is too high by its whole error would fit."""
    return needed(memory, training, device) * (1 - BAND) <= device.memory_bytes


def in_words(memory: Memory) -> str:
    """The parts of an estimate that are not nothing, the largest first."""
    names = ("runtime", "weights", "gathered", "gradients", "optimizer", "buckets", "activations", "loss", "checkpoint")
    parts = sorted(((getattr(memory, name) / GIB, name) for name in names), reverse=True)
    return ", ".join(f"{name} {size:.1f}" for size, name in parts if size >= 0.05)


def cure(config: ModelConfig, training: TrainingConfig, length: int, device: Device, key: str) -> str:
    """The first change of settings that fits: a smaller micro-batch, recomputation, a higher ZeRO stage."""
    smallest = training
    while (smaller := smallest.with_less_memory()) is not None:
        smallest = smaller
        if _would_fit(config, smaller, length, device):
            return f"set {key}.micro_batch={smaller.micro_batch}"
    steps = f"{key}.micro_batch={smallest.micro_batch} {key}.recompute=blocks"
    less = replace(smallest, recompute="blocks")
    if _would_fit(config, less, length, device):
        return f"set {steps}"
    for stage in (1, 2, 3):
        higher = replace(less, engine="deepspeed", zero_stage=stage) if stage > training.zero_stage else less
        if training.ranks > 1 and higher is not less and _would_fit(config, higher, length, device):
            return f"set {steps} {key}.zero_stage={stage}"
    return "take a smaller model=..., more ranks with training.zero_stage=3, or devices with more memory"


def _would_fit(config: ModelConfig, training: TrainingConfig, length: int, device: Device) -> bool:
    return fits(estimate_memory(config, training, length, device.kind == "cpu"), training, device)
