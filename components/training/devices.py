"""What a device can do at best: its published peak, or the speed of a large matrix product measured on the spot.

The table holds dense peaks of matrix products in 16-bit floats with fp32 accumulation, in TFLOP/s, from the vendors'
data sheets. (Twice as much is printed there for sparse matrices; dividing by that halves every MFU.) A device that is
not in it has no peak here: a share of a guessed number is worse than none.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

PEAK_TFLOPS = (
    ("B200", 2250.0),
    ("GB200", 2500.0),
    ("H200", 989.0),
    ("GH200", 989.0),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("H800", 989.0),
    ("A100", 312.0),
    ("A800", 312.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("A30", 165.0),
    ("A40", 149.7),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("V100", 125.0),
    ("T4", 65.0),
    ("RTX 4090", 165.2),
    ("RTX 3090", 71.0),
    ("RTX 6000 Ada", 364.2),
    ("MI300X", 1307.4),
)
"""Part of a device's name, and its peak. V100 and T4 have no bf16: theirs is of fp16."""


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_flops(name: str) -> float | None:
    """The published peak of a device in FLOP/s; None if it is not in the table.

    The longest name that fits counts, as a word of its own: an "A100" is no "A10", and an "L40S" no "L40".
    """
    words = f" {name.replace('-', ' ')} ".casefold()
    fitting = [(len(part), peak) for part, peak in PEAK_TFLOPS if f" {part} ".casefold() in words]
    return max(fitting)[1] * 1e12 if fitting else None


def measure_peak(
    device: torch.device, dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter, rounds: int = 8
) -> float:
    """Speed of a large square matrix product in FLOP/s: what any training on this device stays below.

    Args:
        device: Where.
        dtype: Of the matrices: that of the training's products.
        clock: Seconds since some moment.
        rounds: The best of so many counts, after one that warms up.
    """
    size = 8192 if device.type == "cuda" else 768
    one = torch.ones(size, size, dtype=dtype, device=device)
    best = float("inf")
    for number in range(rounds + 1):
        _finish(device)
        start = clock()
        torch.mm(one, one)
        _finish(device)
        elapsed = clock() - start
        if number:
            best = min(best, elapsed)
    return 2.0 * size**3 / best


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
