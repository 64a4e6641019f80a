"""Safetensors of a model folder: one file, or shards with an index; read tensor by tensor, so nothing is held twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from components.model.huggingface.configs import unusable
from components.publish import publish, publish_json
from components.stored_tensors import StoredTensors

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class FolderWeights(StoredTensors):
    """The tensors of a folder by name, each read from disk when it is asked for.

    Args:
        folder: A model folder.

    Raises:
        StepError: If a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__([folder / name for name in _files(folder)])

    @contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        try:
            with super()._open(path) as file:
                yield file
        except SafetensorError as error:
            raise unusable(self._folder, f"has a damaged {path.name} ({error})") from error


class Renamed(Mapping[str, Tensor]):
    """Tensors under other names.

    Args:
        tensors: The tensors.
        names: Their name by the new one.
    """

    def __init__(self, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write_weights(folder: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype, shard_bytes: int = 0) -> None:
    """Writes tensors in one type, contiguous; as shards with an index where they are more than one shard holds.

    Args:
        folder: Where to.
        tensors: By name.
        dtype: Type on disk.
        shard_bytes: Most bytes of a shard, unless a single tensor has more; 0 writes one file.
    """
    shards = _shards(tensors, dtype, shard_bytes)
    names = [WHOLE]
    if len(shards) > 1:
        names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    placed: dict[str, str] = {}
    total = 0
    for name, shard in zip(names, shards, strict=True):
        ready = {key: tensors[key].detach().to("cpu", dtype).contiguous() for key in shard}
        with publish(folder / name) as temporary:
            save_file(ready, temporary, metadata={"format": "pt"})
        placed |= dict.fromkeys(shard, name)
        total += sum(tensor.numel() * tensor.element_size() for tensor in ready.values())
    if len(shards) > 1:
        publish_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": placed})
    # Of an earlier write, which would be read in place of this one:
    (folder / (WHOLE if len(shards) > 1 else INDEX)).unlink(missing_ok=True)


def _shards(tensors: Mapping[str, Tensor], dtype: torch.dtype, shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    room = shard_bytes
    for name, tensor in tensors.items():
        size = tensor.numel() * dtype.itemsize
        if shard_bytes and size > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


def _files(folder: Path) -> list[str]:
    names = [WHOLE]
    if (folder / INDEX).is_file():
        names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            raise unusable(folder, f"has no {name}")
    return names
