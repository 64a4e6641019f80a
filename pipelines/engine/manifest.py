"""The manifest of an artifact: what it holds, what it was made of, by what, where and how fast.

This record is what a lease's epoch is decided with; its existence is the commit. It says enough to explain a later
plan field by field, to check the bytes, to follow the lineage and to estimate the next run.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache

from components.context import Json

SCHEMA = 2

PACKAGES = ("headwater", "ray", "torch", "deepspeed", "transformers", "tokenizers", "pyarrow", "numpy", "mlflow")
"""Packages whose versions an artifact records: those that can change its bytes or explain its speed."""


@dataclass(frozen=True)
class FileRecord:
    """One file of an artifact: its size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class InputRecord:
    """One input of an artifact.

    Attributes:
        step: The producing step, or what the external file is.
        key: Its recipe key; the content digest of an external file.
        content: Digest of its bytes, as they were when this artifact was made of them.
    """

    step: str
    key: str
    content: str


@dataclass(frozen=True)
class Origin:
    """Where the files of an artifact come from that no step wrote under its own key.

    Attributes:
        kind: "equal": inputs with the same bytes had made them before. "accepted": a person declared them valid for
            newer code. "adopted": they were made outside.
        step: Step of the artifact whose files these are; empty for adopted ones.
        key: Its recipe key.
        epoch: Its epoch.
        by: Who or what decided it.
        reason: Why, in words.
    """

    kind: str
    step: str = ""
    key: str = ""
    epoch: int = 0
    by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Manifest:
    """See the module.

    Attributes:
        step: Producing step.
        key: Recipe key, 64 hex characters.
        content_key: Content key, 64 hex characters: as the recipe key, of the inputs' bytes.
        version: Version of the step's function.
        inputs: Inputs by name.
        identity: Identity fields of the config, secrets redacted.
        config: Every field of the config, secrets redacted.
        code_digest: Digest of the code that ran, whatever the policy.
        code_files: Digest of each source file.
        code_policy: "rerun", "warn" or "fail".
        run: The run that made the files.
        resources: Cores, GPUs and ranks it had: "cpus", "gpus", "ranks".
        source: Commit of the code, whether it was changed since, digest of that change and of the lock file.
        started: Unix time.
        seconds: Wall time of the step.
        metrics: Final metrics.
        versions: Package versions by name.
        hardware: Host, CPU count, GPU names.
        origin: Set where the files were not written under this key.
        epoch: Epoch of the lease under which it was committed; set by the commit, as all that follows.
        data: Folder of the files, from the store's root.
        files: Files by path from that folder.
        content: Digest over all files.
        committed: Unix time of the commit.
        kind: Always "commit"; tells it from the records of epochs that published nothing.
        schema: Version of this record.
    """

    step: str
    key: str
    content_key: str
    version: int
    inputs: Mapping[str, InputRecord]
    identity: Mapping[str, Json]
    config: Mapping[str, Json]
    code_digest: str
    code_files: Mapping[str, str]
    code_policy: str
    run: str
    resources: Mapping[str, float]
    source: Mapping[str, Json]
    started: float
    seconds: float
    metrics: Mapping[str, float]
    versions: Mapping[str, str]
    hardware: Mapping[str, Json]
    origin: Origin | None = None
    epoch: int = 0
    data: str = ""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    content: str = ""
    committed: float = 0.0
    kind: str = "commit"
    schema: int = SCHEMA

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files.values())

    def to_bytes(self) -> bytes:
        """As JSON text. Non-finite metrics are written as text."""
        record = asdict(self)
        record["metrics"] = finite(self.metrics)
        return (json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @staticmethod
    def from_bytes(text: bytes) -> Manifest:
        """Reads a manifest.

        Raises:
            ValueError: If it is no manifest of this schema.
        """
        record = json.loads(text)
        if not isinstance(record, dict) or record.get("kind") != "commit" or record.get("schema") != SCHEMA:
            raise ValueError(f"no manifest of schema {SCHEMA}")
        try:
            record["files"] = {name: FileRecord(**value) for name, value in record["files"].items()}
            record["inputs"] = {name: InputRecord(**value) for name, value in record["inputs"].items()}
            record["metrics"] = {name: float(value) for name, value in record["metrics"].items()}
            record["origin"] = None if record["origin"] is None else Origin(**record["origin"])
            return Manifest(**record)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"manifest is damaged: {error}") from None


def finite(metrics: Mapping[str, float]) -> dict[str, Json]:
    """Metrics as strict JSON: what is not finite becomes text, which `float` reads back."""
    return {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, without importing them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
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
