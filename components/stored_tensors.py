"""Tensors in safetensors files, each read when it is asked for: nobody holds a whole model to use its part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of some files by name.

    Args:
        files: They share no name.
    """

    def __init__(self, files: list[Path]) -> None:
        self._of: dict[str, Path] = {}
        for path in files:
            with self._open(path) as file:
                self._of |= dict.fromkeys(file.keys(), path)

    def __getitem__(self, name: str) -> Tensor:
        with self._open(self._of[name]) as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    @contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        with safe_open(path, framework="pt") as file:
            yield file
