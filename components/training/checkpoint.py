"""Checkpoints that any engine, ZeRO stage and number of ranks can read, published whole or not at all.

    scratch/checkpoints/step-000120/
        config.json  model.safetensors  tokenizer.json ...   a Hugging Face folder (`model_folder`); a training with
                                                             several models has more, in folders of their own
        optimizer.safetensors       the optimizer's state by parameter name, fp32; several files where it is large
        rng.safetensors             the random state of every rank
        state.json                  step, position in the data, schedule, guard, curve, counters
        MANIFEST.json               SHA-256 and size of each file, and a digest of itself

Weights and moments are gathered by name instead of written as each rank holds them. That costs one gather per
checkpoint and buys files that need no conversion; engine-native files are tied to stage and world size. The folder is
written under another name, flushed, and renamed: there is no half of one. What is read is hashed first, so a flipped
bit or a cut is named and the checkpoint before is used.

Signatures others build on (PPO keeps two engines in one checkpoint, under prefixes):
    save_checkpoint(folder, step, tensors: {file name: {name: Tensor}}, state: Json dict, models=()) -> Path
    newest_verified(folder, say) -> Checkpoint | None                        say(sentence) is told what is damaged
    open_checkpoint(path) -> Checkpoint                                      to go on from; StepError if damaged
    agree_on_checkpoint(engine, folder, say) -> Checkpoint | None            collective: rank 0 verifies, all follow
    load_engine(engine, checkpoint, files, prefix="")                        collective
    rng_tensors(engine) / restore_rng(engine, checkpoint)                    collective
    ModelFiles                                                               how weights become a folder and come back
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from components.context import Json
from components.errors import MachineError, StepError
from components.publish import flush, publish, publish_json, read_json, sha256_of
from components.stored_tensors import StoredTensors
from components.training.engine import Engine

KEPT = 2
FORMAT = 3
MANIFEST = "MANIFEST.json"
FILE_BYTES = 2 * 10**9
"""Largest file of an optimizer's state, a single larger tensor excepted."""
Say = Callable[[str], None]


class ModelFiles(Protocol):
    """How the weights of a checkpoint are laid out."""

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Writes weights, by our parameter names, into a folder that exists."""

    def read(self, folder: Path) -> Mapping[str, Tensor]:
        """What `write` was given."""


Models: TypeAlias = Sequence[tuple[ModelFiles, Mapping[str, Tensor]]]
"""Weights by our parameter names, each model with how it is laid out."""


class NamedWeights:
    """Weights in one file by our own names: for models that no other program knows."""

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """See `ModelFiles.write`."""
        save_file(dict(weights), folder / "model.safetensors")

    def read(self, folder: Path) -> Mapping[str, Tensor]:
        """See `ModelFiles.read`."""
        return StoredTensors([folder / "model.safetensors"])


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are as they were written."""

    path: Path
    step: int

    def tensors(self, name: str) -> Mapping[str, Tensor]:
        """The tensors of one group, on the CPU."""
        return StoredTensors(sorted([*self.path.glob(f"{name}.safetensors"), *self.path.glob(f"{name}-*.safetensors")]))

    def state(self) -> dict[str, Json]:
        """What was saved as plain values."""
        value: dict[str, Json] = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
        return value


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Json],
    models: Models = (),
) -> Path:
    """Writes a checkpoint and removes all but the newest two. Call it on rank 0 alone.

    Args:
        folder: Where checkpoints live.
        step: Steps done; names the checkpoint.
        tensors: For each group (the name of its file without suffix), contiguous CPU tensors by name.
        state: Plain values.
        models: Weights that are laid out in a way of their own.

    Raises:
        MachineError: If the disk does not take it. Earlier checkpoints stay.
    """
    path = folder / f"step-{step:06d}"
    draft = folder / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        _clear_drafts(folder)
        draft.mkdir(parents=True)
        for name, group in tensors.items():
            _write_group(draft, name, group)
        for files, weights in models:
            files.write(draft, weights)
        publish_json(draft / "state.json", state)
        _seal(draft, step)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(draft, path)
        flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
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
        step = _step_of(path)
        damage = find_damage(path, step)
        if damage is None:
            return Checkpoint(path, step)
        say(f"checkpoint {path.name} is skipped: {damage}")
    return None


def open_checkpoint(path: Path) -> Checkpoint:
    """One checkpoint, wherever it lies and whatever its folder is called: for another training to go on from.

    Raises:
        StepError: If it is none, or not as it was written.
    """
    step = -1
    if (path / MANIFEST).is_file():
        found = read_json(path / MANIFEST).get("step")
        step = found if isinstance(found, int) else -1
    damage = find_damage(path, step)
    if damage is not None:
        raise StepError(
            f"The checkpoint to go on from cannot be used: {damage}.",
            where=str(path),
            fix="give a folder step-... of another run's checkpoints that is whole",
        )
    return Checkpoint(path, step)


def agree_on_checkpoint(engine: Engine, folder: Path, say: Say) -> Checkpoint | None:
    """The newest verified checkpoint, the same on all ranks: rank 0 reads and hashes, the others take its word."""
    found = newest_verified(folder, say) if engine.rank == 0 else None
    [mark] = engine.sum_over_ranks([found.step + 1 if found else 0])
    step = int(mark) - 1
    return Checkpoint(folder / f"step-{step:06d}", step) if step >= 0 else None


def load_engine(engine: Engine, checkpoint: Checkpoint, files: ModelFiles, prefix: str = "") -> None:
    """Puts an engine where the checkpoint's engine was, whatever stage and number of ranks that had. Collective.

    Args:
        engine: Of the same model.
        checkpoint: Where it was saved.
        files: How its weights are laid out.
        prefix: Begins the name of the group that holds its optimizer's state.
    """
    engine.load_weights(files.read(checkpoint.path))
    engine.load_optimizer_state(checkpoint.tensors(f"{prefix}optimizer"))


def rng_tensors(engine: Engine) -> dict[str, dict[str, Tensor]]:
    """The group that holds torch's random state of every rank. Collective."""
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


def find_damage(path: Path, step: int) -> str | None:
    """What is wrong with what should be the checkpoint of a step, or None."""
    try:
        manifest = read_json(path / MANIFEST)
        if "format" not in manifest:
            return "it is of an older version, whose format is no longer read"
        if manifest["digest"] != _digest(manifest) or manifest["step"] != step:
            return f"{MANIFEST} is not what was written"
        files = manifest["files"]
        assert isinstance(files, dict)
        if manifest["format"] != FORMAT:
            return f"it has format {manifest['format']}, and this version reads {FORMAT}"
    except FileNotFoundError:
        return "it was never finished"
    except (ValueError, KeyError) as error:
        return f"its manifest cannot be read ({error})"
    for name, known in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != known["bytes"] or sha256_of(file) != known["sha256"]:
            return f"{name} is not what was written"
    return None


def _write_group(folder: Path, name: str, group: Mapping[str, Tensor]) -> None:
    parts = _in_parts(group)
    for number, part in enumerate(parts, 1):
        suffix = f"-{number:05d}-of-{len(parts):05d}" if len(parts) > 1 else ""
        with publish(folder / f"{name}{suffix}.safetensors") as temporary:
            save_file(part, temporary)


def _in_parts(group: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Cuts a group into files of at most FILE_BYTES, in the order of the names."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in group.items():
        if parts[-1] and size + tensor.nbytes > FILE_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    return parts


def _seal(folder: Path, step: int) -> None:
    """Flushes every file and folder and writes the manifest."""
    files: dict[str, Json] = {}
    for path in sorted(folder.rglob("*")):
        flush(path)
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    manifest: dict[str, object] = {"format": FORMAT, "step": step, "files": files}
    publish_json(folder / MANIFEST, {**manifest, "digest": _digest(manifest)})


def _digest(manifest: Mapping[str, object]) -> str:
    """Of what a manifest says, itself left out: a manifest that was damaged vouches for nothing."""
    content = {name: value for name, value in manifest.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _gather_bytes(engine: Engine, state: Tensor) -> Tensor:
    """Stacks a uint8 tensor of equal length over ranks, four bytes at a time: exact in the sums of the interface."""
    words = state.view(torch.int32)
    values = torch.zeros(engine.world_size, len(words), dtype=torch.float64)
    values[engine.rank] = words
    total = torch.tensor(engine.sum_over_ranks(values.view(-1).tolist()), dtype=torch.float64)
    return total.to(torch.int32).view(torch.uint8).view(engine.world_size, len(state))


def _folders(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdigit()]
    return sorted(found, key=_step_of, reverse=True)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _clear_drafts(folder: Path) -> None:
    """Removes what writers left that were killed; there is one writer at a time."""
    for draft in folder.glob(".step-*.tmp"):
        shutil.rmtree(draft, ignore_errors=True)
