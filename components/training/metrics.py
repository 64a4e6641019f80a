"""What training counts and tells: losses, speed, the share of the machine that it uses, and of its time.

Definitions, because each of these is printed elsewhere with another meaning:

    tokens_per_second   tokens read / seconds inside training steps (no evaluation, no save), all ranks together
    mfu                 tokens_per_second x FLOPs per token / peak of all devices, as PaLM counts FLOPs (2204.02311,
                        appendix B: 6 per weight, attention in full)
    mfu_causal          the same with attention halved, as a causal kernel does it and Megatron counts it
    gemm_share          the first over the speed of a large matrix product measured at the start
    data_wait_share     seconds in which the step waited for its batch / seconds inside steps
    goodput             seconds inside steps that the model still owes something to / all seconds of all sessions:
                        set-up, evaluations, saves, work lost with a crash or by a rewind, all count against it
    eta_s               steps left x seconds per step since the line before, evaluations and saves included

Where a number cannot be known it is left out: a device without a published peak has no MFU. All arithmetic is on
numbers that are handed in, so that tests can hand in theirs.
"""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch

GIB = 2.0**30


@dataclass
class Mean:
    """A running mean of sums over units, such as nats over tokens. Plain numbers, so that a checkpoint can hold it."""

    total: float = 0.0
    units: float = 0.0

    def add(self, total: float, units: float) -> None:
        """Adds a sum over some units."""
        self.total += total
        self.units += units

    def take(self) -> float:
        """The mean so far (NaN if nothing was added); starts anew."""
        mean = self.total / self.units if self.units else math.nan
        self.total = self.units = 0.0
        return mean


@dataclass(frozen=True)
class Window:
    """What happened since the line of metrics before.

    Attributes:
        steps: Steps done.
        tokens: Tokens read.
        step_s: Seconds inside steps.
        wait_s: Seconds of them in which the step waited for its batch.
        session_s: Seconds since then, whatever they were spent on.
    """

    steps: int
    tokens: int
    step_s: float
    wait_s: float
    session_s: float


@dataclass(frozen=True)
class Machine:
    """What the metrics need to know about the machine and the model.

    Attributes:
        flops_per_token: Of training, by convention: "palm", "causal". Empty if the task cannot tell.
        peak: Published FLOP/s of one device; None if unknown.
        gemm: Measured FLOP/s of one device; None if not measured.
        devices: Number of devices.
    """

    flops_per_token: Mapping[str, float]
    peak: float | None
    gemm: float | None
    devices: int


def speed(window: Window, machine: Machine) -> dict[str, float]:
    """Tokens per second, and the shares of the devices' speed that this is."""
    rate = window.tokens / window.step_s if window.step_s else 0.0
    values = {"tokens_per_second": rate}
    achieved = {name: rate * flops / machine.devices for name, flops in machine.flops_per_token.items()}
    if machine.peak is not None:
        for convention, name in (("palm", "mfu"), ("causal", "mfu_causal")):
            if convention in achieved:
                values[name] = achieved[convention] / machine.peak
    if machine.gemm is not None and "palm" in achieved:
        values["gemm_share"] = achieved["palm"] / machine.gemm
    return values


def time_shares(window: Window, steps_left: int, useful_s: float, wall_s: float) -> dict[str, float]:
    """Where the time went, and how much is left.

    Args:
        window: Since the line before.
        steps_left: Steps to the end.
        useful_s: Seconds inside the steps that led to the model as it is.
        wall_s: Seconds of all sessions.
    """
    values = {}
    if window.step_s:
        values["data_wait_share"] = window.wait_s / window.step_s
    if wall_s:
        values["goodput"] = useful_s / wall_s
    if window.steps:
        values["eta_s"] = steps_left * window.session_s / window.steps
    return values


def peak_memory(device: torch.device) -> dict[str, float]:
    """Most memory this process has had, in GiB: of the machine, and of its GPU where it has one."""
    unit = 1 if sys.platform == "darwin" else 1024
    values = {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB}
    if device.type == "cuda":
        values["gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / GIB
    return values


def bits_per_byte(nats: float, num_bytes: float) -> float:
    """Bits per byte of text out of a sum of cross-entropies in nats: comparable over tokenizers.

    Args:
        nats: Sum of -ln p over the scored tokens.
        num_bytes: UTF-8 bytes of the text those tokens spell.
    """
    return nats / math.log(2) / num_bytes


def describe(loss: float, lr: float, skipped: int, evaluation: dict[str, float]) -> str:
    """The note of the live table: "loss 3.41  bpb 1.62  lr 9.2e-04  skipped 0"."""
    parts = [f"loss {loss:.3f}"]
    for name, label in (("val_bpb", "bpb"), ("val_loss", "val"), ("val_accuracy", "accuracy")):
        if name in evaluation:
            parts.append(f"{label} {evaluation[name]:.3f}")
    return "  ".join([*parts, f"lr {lr:.1e}", f"skipped {skipped}"])
