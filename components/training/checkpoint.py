"""Checkpoints that any ZeRO stage and any number of ranks can read, published whole or not at all.

    scratch/checkpoints/step-000120/
        model.safetensors       weights by parameter name, fp32
        optimizer.safetensors   AdamW's moments by parameter name, fp32, and its step
        rng.safetensors         the random state of every rank
        state.json              step, curve, counters
        MANIFEST.json           SHA-256 of each file above, written last: without it the folder does not count

Weights and moments are gathered by name instead of written as each rank holds them. That costs one gather per
checkpoint and buys a file that needs no conversion; engine-native files are tied to stage and world size.

Signatures others build on (PPO keeps two engines in one checkpoint, under prefixes):
    save_checkpoint(folder, step, tensors: {file name: {name: Tensor}}, state: Json dict) -> Path      rank 0 only
    newest_verified(folder, say) -> Checkpoint | None                        say(sentence) is told what is damaged
    agree_on_checkpoint(engine, folder, say) -> Checkpoint | None            collective: rank 0 verifies, all follow
    engine_tensors(engine, prefix="") / load_engine(engine, checkpoint, prefix="")     collective
    rng_tensors(engine) / restore_rng(engine, checkpoint)                    collective
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.context import Json
from components.errors import MachineError
from components.publish import publish, publish_json, read_json, sha256_of
from components.training.engine import Engine

KEPT = 2
MANIFEST = "MANIFEST.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are as they were written."""

    path: Path
    step: int

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one file, on the CPU."""
        return load_file(self.path / f"{name}.safetensors")

    def state(self) -> dict[str, Json]:
        """What was saved as plain values."""
        value: dict[str, Json] = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
        return value


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Json]
) -> Path:
    """Writes a checkpoint and removes all but the newest two. Call it on rank 0 alone.

    Args:
        folder: Where checkpoints live.
        step: Steps done; names the checkpoint.
        tensors: For each file name (without suffix), contiguous CPU tensors by name.
        state: Plain values.

    Raises:
        MachineError: If the disk does not take it. Earlier checkpoints stay.
    """
    path = folder / f"step-{step:06d}"
    try:
        shutil.rmtree(path, ignore_errors=True)
        for name, group in tensors.items():
            with publish(path / f"{name}.safetensors") as temporary:
                save_file(dict(group), temporary)
        publish_json(path / "state.json", state)
        publish_json(path / MANIFEST, {"step": step, "files": _hashes(path)})
    except (OSError, SafetensorError) as error:
        raise MachineError(
            f"The checkpoint of step {step} could not be written: {error}.",
            where=str(path),
            fix="make room on this disk and run again; training continues from the newest whole checkpoint",
        ) from error
    for old in _folders(folder)[KEPT:]:
        shutil.rmtree(old)
    return path


def newest_verified(folder: Path, say: Say) -> Checkpoint | None:
    """The newest checkpoint whose every file has the recorded hash; tells `say` about each one passed over."""
    for path in _folders(folder):
        damage = _damage(path)
        if damage is None:
            return Checkpoint(path, int(path.name.removeprefix("step-")))
        say(f"checkpoint {path.name} is skipped: {damage}")
    return None


def agree_on_checkpoint(engine: Engine, folder: Path, say: Say) -> Checkpoint | None:
    """The newest verified checkpoint, the same on all ranks: rank 0 reads and hashes, the others take its word."""
    found = newest_verified(folder, say) if engine.rank == 0 else None
    [mark] = engine.sum_over_ranks([found.step + 1 if found else 0])
    step = int(mark) - 1
    return Checkpoint(folder / f"step-{step:06d}", step) if step >= 0 else None


def engine_tensors(engine: Engine, prefix: str = "") -> dict[str, dict[str, Tensor]]:
    """The files of one engine: its weights and its optimizer state. Collective."""
    return {f"{prefix}model": engine.full_weights(), f"{prefix}optimizer": engine.optimizer_state()}


def load_engine(engine: Engine, checkpoint: Checkpoint, prefix: str = "") -> None:
    """Puts an engine where the checkpoint's engine was, whatever stage and number of ranks that had. Collective."""
    engine.load_weights(checkpoint.tensors(f"{prefix}model"))
    engine.load_optimizer_state(checkpoint.tensors(f"{prefix}optimizer"))


def rng_tensors(engine: Engine) -> dict[str, dict[str, Tensor]]:
    """The file that holds torch's random state of every rank. Collective."""
    states = {"cpu": torch.get_rng_state()}
    if engine.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(engine.device)
    return {"rng": {name: _gather_bytes(engine, state) for name, state in states.items()}}


def restore_rng(engine: Engine, checkpoint: Checkpoint) -> bool:
    """Restores this rank's random state.

    Returns:
        False if the checkpoint is of another number of ranks or another kind of device: the state stays as it is.
    """
    saved = checkpoint.tensors("rng")
    wanted = {"cpu", "cuda"} if engine.device.type == "cuda" else {"cpu"}
    if set(saved) != wanted or len(saved["cpu"]) != engine.world_size:
        return False
    # Cloned, because torch reads the state from the start of its storage: a view of a later row crashes the process.
    torch.set_rng_state(saved["cpu"][engine.rank].clone())
    if "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"][engine.rank].clone(), engine.device)
    return True


def _gather_bytes(engine: Engine, state: Tensor) -> Tensor:
    """Stacks a uint8 tensor of equal length over ranks; bytes are exact in the float64 sums of the interface."""
    size = len(state)
    values = [0.0] * (size * engine.world_size)
    values[engine.rank * size : (engine.rank + 1) * size] = [float(byte) for byte in state.tolist()]
    return torch.tensor(engine.sum_over_ranks(values)).to(torch.uint8).view(engine.world_size, size)


def _folders(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def _hashes(path: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in sorted(path.iterdir()) if file.name != MANIFEST}


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        files = read_json(path / MANIFEST)["files"]
    except FileNotFoundError:
        return "it was never finished"
    except (ValueError, KeyError) as error:
        return f"its manifest cannot be read ({error})"
    if not isinstance(files, dict) or not files:
        return "its manifest names no files"
    for name, digest in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if sha256_of(path / name) != digest:
            return f"{name} is not what was written"
    return None
