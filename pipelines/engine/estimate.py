"""What a step will take, from the manifests of earlier runs: seconds, core hours, GPU hours.

The estimate of a step is the median of the three newest times it really ran; times with the resources it asks for
now are preferred to others. Aliases do not count: nothing ran for them.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.engine.manifest import Manifest
from pipelines.engine.step import Resources
from pipelines.engine.store import Store

NEWEST = 32
"""Manifests of a step that are read at most; a store keeps many."""
MEDIAN_OF = 3

_COMMIT = re.compile(r"[^/]+/\d{6,}\.json")


@dataclass(frozen=True)
class Cost:
    """What steps take up.

    Attributes:
        cpu_hours: Cores times hours.
        gpu_hours: GPUs times hours.
    """

    cpu_hours: float = 0.0
    gpu_hours: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu_hours + other.cpu_hours, self.gpu_hours + other.gpu_hours)

    def money(self, cpu_hour: float, gpu_hour: float) -> float:
        """The price at so much an hour of a core and of a GPU, in their currency."""
        return self.cpu_hours * cpu_hour + self.gpu_hours * gpu_hour


def cost_of(resources: Resources, seconds: float) -> Cost:
    """What a step takes up that holds its resources for so long."""
    return Cost(resources.total_cpus * seconds / 3600, resources.total_gpus * seconds / 3600)


class History:
    """The newest manifests of steps, each step read once.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, list[Manifest]] = {}

    def of(self, step: str) -> list[Manifest]:
        """Manifests of a step, the newest first; damaged ones are passed over."""
        if step not in self._read:
            found = _newest(self._store, step)
            self._read[step] = sorted(found, key=lambda manifest: manifest.committed, reverse=True)
        return self._read[step]

    def seconds_of(self, step: str, resources: Resources) -> float | None:
        """The estimate for a step; None if it never ran."""
        return expected_s(self.of(step), resources)


def expected_s(manifests: Sequence[Manifest], resources: Resources) -> float | None:
    """The estimate from manifests, the newest first; None if none of them really ran."""
    ran = [manifest for manifest in manifests if manifest.origin is None]
    asked = (resources.total_cpus, resources.total_gpus, resources.ranks)
    alike = [manifest for manifest in ran if _had(manifest) == asked]
    times = [manifest.seconds for manifest in (alike or ran)[:MEDIAN_OF]]
    return statistics.median(times) if times else None


def _had(manifest: Manifest) -> tuple[float, float, float]:
    had = manifest.resources
    return had.get("cpus", 0.0), had.get("gpus", 0.0), had.get("ranks", 1.0)


def _newest(store: Store, step: str) -> list[Manifest]:
    changed = store.root.changed(f"artifacts/{step}", depth=2)
    names = [name for name in changed if _COMMIT.fullmatch(name)]
    found = []
    for name in sorted(names, key=lambda name: (changed[name], name), reverse=True)[:NEWEST]:
        try:
            found.append(Manifest.from_bytes(store.root.read(f"artifacts/{step}/{name}") or b""))
        except ValueError:
            continue
    return found
