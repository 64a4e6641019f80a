"""What all tests share: toy steps on the path, no way off this machine, unhurried hypothesis, one small Ray cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

SUPPORT = str(Path(__file__).parent / "support")
sys.path.insert(0, SUPPORT)
sys.path.append(str(Path(__file__).resolve().parents[1]))  # where spawned ranks, which inherit the path, find `tests`
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SUPPORT, os.environ.get("PYTHONPATH", "")]))

import loopback_only  # noqa: E402  (found through the path set above)
from s3_server import s3_server, s3_url  # noqa: E402, F401  (fixtures; found through the path set above)

loopback_only.install()

settings.register_profile("headwater", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("headwater")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray cluster of two cores for the whole session; `execute` joins the one its process is connected to."""
    from pipelines.engine.cluster import ClusterConfig
    from pipelines.engine.remote import connect

    connect(ClusterConfig(kind="local", num_cpus=2, num_gpus=0, object_store_mib=128))
    import ray

    yield
    ray.shutdown()
