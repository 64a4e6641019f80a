"""The manifest of an artifact: what it holds, what it was made of, by what, where and how fast.

`COMMIT.json` is this record; its existence is the commit. It says enough to explain a later plan field by field, to
check the bytes, to follow the lineage and to estimate the next run.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from components.context import Json

SCHEMA = 1

PACKAGES = ("headwater", "ray", "torch", "deepspeed", "transformers", "tokenizers", "pyarrow", "numpy", "mlflow")
"""Packages whose versions an artifact records: those that can change its bytes or explain its speed."""


@dataclass(frozen=True)
class FileRecord:
    """One file of an artifact: its size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class InputRecord:
    """One input of an artifact: the producing step (or what the external file is) and its key (or content digest)."""

    step: str
    key: str


@dataclass(frozen=True)
class Manifest:
    """See the module.

    Attributes:
        step: Producing step.
        key: Recipe key, 64 hex characters.
        version: Version of the step's function.
        attempt: Folder beside COMMIT.json that holds the files.
        inputs: Inputs by name.
        identity: Identity fields of the config, secrets redacted.
        config: Every field of the config, secrets redacted.
        code_digest: Digest of the code that ran, whatever the policy.
        code_files: Digest of each source file.
        code_policy: "rerun" or "warn".
        files: Files by path from the attempt folder.
        content: Digest over all files.
        metrics: Final metrics.
        run: The run that made it.
        versions: Package versions by name.
        hardware: Host, CPU count, GPU names.
        started: Unix time.
        seconds: Wall time of the step.
        schema: Version of this record.
    """

    step: str
    key: str
    version: int
    attempt: str
    inputs: Mapping[str, InputRecord]
    identity: Mapping[str, Json]
    config: Mapping[str, Json]
    code_digest: str
    code_files: Mapping[str, str]
    code_policy: str
    files: Mapping[str, FileRecord]
    content: str
    metrics: Mapping[str, float]
    run: str
    versions: Mapping[str, str]
    hardware: Mapping[str, Json]
    started: float
    seconds: float
    schema: int = SCHEMA

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files.values())

    def to_bytes(self) -> bytes:
        """As the text of COMMIT.json. Non-finite metrics are written as text."""
        record = asdict(self)
        record["metrics"] = finite(self.metrics)
        return (json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @staticmethod
    def from_bytes(text: bytes) -> Manifest:
        """Reads COMMIT.json.

        Raises:
            ValueError: If it is no manifest of this schema.
        """
        record = json.loads(text)
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise ValueError(f"no manifest of schema {SCHEMA}")
        try:
            record["files"] = {name: FileRecord(**value) for name, value in record["files"].items()}
            record["inputs"] = {name: InputRecord(**value) for name, value in record["inputs"].items()}
            record["metrics"] = {name: float(value) for name, value in record["metrics"].items()}
            return Manifest(**record)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"manifest is damaged: {error}") from None


def finite(metrics: Mapping[str, float]) -> dict[str, Json]:
    """Metrics as strict JSON: what is not finite becomes text, which `float` reads back."""
    return {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, without importing them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Json]:
    """Host name, cores, memory in bytes and GPU names, without importing torch."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"host": socket.gethostname(), "cpus": os.cpu_count(), "memory_bytes": memory, "gpus": _gpu_names()}


def _gpu_names() -> list[Json]:
    """Names of the NVIDIA GPUs as the driver lists them."""
    root = "/proc/driver/nvidia/gpus"
    names: list[Json] = []
    for gpu in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        with open(os.path.join(root, gpu, "information"), encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        names.append(fields.get("Model", "GPU").strip())
    return names
