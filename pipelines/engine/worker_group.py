"""One group of ranks on Ray Train, without the helpers it starts for uses that are not ours.

A plain `TorchTrainer` starts three helper actors beside its controller, each a process of 200 MB that takes a second of
CPU to import. One stays: it gives the group's cores back when the controller is killed. The one that hands out Ray
datasets and the one that shares an autoscaler with Ray Data go: steps read files, and a pending placement group tells
the autoscaler all it needs. Everything else is Ray Train's: the group is placed whole or not at all, and one lost rank
ends it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.launching import GROUP_TIMEOUT
from pipelines.engine.step import Resources

ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the end of a group is seen half of this later; Ray's own is 2 s
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})

from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: E402  (reads the environment)
from ray.train.torch import TorchConfig, TorchTrainer  # noqa: E402
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback  # noqa: E402
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy  # noqa: E402


class _FixedSize(FixedScalingPolicy):  # type: ignore[misc]
    """A group of fixed size that is no party to the autoscaler's coordination with Ray Data."""

    def after_controller_start(self, train_run_context: object) -> None:
        """Registers nothing."""

    def _maybe_send_resource_request(self) -> None:
        """Asks for nothing."""


class _GroupTrainer(TorchTrainer):  # type: ignore[misc]
    """See the module."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, DatasetsCallback)]

    def _initialize_and_run_controller(self, **settings: Any) -> Any:  # noqa: ANN401  (Ray Train's own signature)
        return super()._initialize_and_run_controller(**{**settings, "scaling_policy": _FixedSize(self.scaling_config)})


def run_group(loop: Callable[[], None], workers: int, resources: Resources, folder: Path) -> None:
    """Runs a function on every rank of a new group, inside its process group, and waits for all.

    Args:
        loop: What each rank runs.
        workers: Number of ranks.
        resources: What each rank gets.
        folder: Where Ray Train keeps its own few files.

    Raises:
        ray.train.TrainingFailedError: If a rank fails or is lost.
    """
    gpus = {"GPU": resources.gpus} if resources.gpus else {}
    trainer = _GroupTrainer(
        loop,
        torch_config=TorchConfig("nccl" if gpus else "gloo", timeout_s=int(GROUP_TIMEOUT.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=bool(gpus), resources_per_worker={"CPU": resources.cpus, **gpus}
        ),
        run_config=RunConfig(name="ranks", storage_path=str(folder), failure_config=FailureConfig(max_failures=0)),
    )
    trainer.fit()
