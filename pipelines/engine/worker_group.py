"""One group of ranks on Ray Train, without the processes and imports that serve other uses.

This is what `TorchTrainer` does, by the trainer class beneath it. Measured, a launch of two ranks that do nothing takes
13 s of CPU instead of 17 s (4 s of it their own start) and 0.75 GB less memory, because
- the process group is set up by a backend class of ours: the stock one imports torch in the step's process and in
  the controller, which only pass it on;
- the actor that hands out Ray datasets and the one that shares an autoscaler with Ray Data are not started: steps read
  files, and a pending placement group tells the autoscaler all it needs.
The helper that gives the group's cores back when the controller is killed stays. Placement (all ranks or none), local
ranks, visible GPUs and the detection of a lost rank are Ray Train's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.launching import GROUP_TIMEOUT, RankLost
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

import ray.train  # noqa: E402  (reads the environment)
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError  # noqa: E402
from ray.train._internal.utils import get_address_and_port  # noqa: E402
from ray.train.backend import Backend, BackendConfig  # noqa: E402
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback  # noqa: E402
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError  # noqa: E402
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy  # noqa: E402
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer  # noqa: E402


class _GroupConfig(BackendConfig):  # type: ignore[misc]
    """Which kind of process group the ranks form: "gloo" or "nccl"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @property
    def backend_cls(self) -> type[_GroupBackend]:
        return _GroupBackend


class _GroupBackend(Backend):  # type: ignore[misc]
    """Joins the ranks into one process group; they leave it themselves, since one that failed would be waited for."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: _GroupConfig) -> None:  # noqa: ANN401  (Ray Train's own)
        """Runs in the controller once all ranks are there."""
        address, port = worker_group.execute_single(0, get_address_and_port)
        worker_group.execute(_join_group, address, port, backend_config.kind)


class _FixedSize(FixedScalingPolicy):  # type: ignore[misc]
    """A group of fixed size that is no party to the autoscaler's coordination with Ray Data."""

    def after_controller_start(self, train_run_context: object) -> None:
        """Registers nothing."""

    def _maybe_send_resource_request(self) -> None:
        """Asks for nothing."""


class _GroupTrainer(DataParallelTrainer):  # type: ignore[misc]
    """See the module."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, DatasetsCallback)]

    def _initialize_and_run_controller(self, **settings: Any) -> Any:  # noqa: ANN401  (Ray Train's own signature)
        return super()._initialize_and_run_controller(**{**settings, "scaling_policy": _FixedSize(self.scaling_config)})


def run_group(loop: Callable[[], None], workers: int, resources: Resources, folder: Path) -> None:
    """Runs a function on every rank of a new group, inside its process group, and waits for all.

    Args:
        loop: What each rank runs; it must leave the process group at its end.
        workers: Number of ranks.
        resources: What each rank gets.
        folder: Where Ray Train keeps its own few files.

    Raises:
        RankLost: If the process of a rank died.
        ray.train.TrainingFailedError: If a rank raised.
    """
    gpus = {"GPU": resources.gpus} if resources.gpus else {}
    trainer = _GroupTrainer(
        loop,
        backend_config=_GroupConfig("nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=bool(gpus), resources_per_worker={"CPU": resources.cpus, **gpus}
        ),
        run_config=RunConfig(name="ranks", storage_path=str(folder), failure_config=FailureConfig(max_failures=0)),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        lost = _lost(getattr(error, "worker_failures", {}))
        if lost:
            raise RankLost(lost) from error
        raise


def _join_group(address: str, port: int, kind: str) -> None:
    """Runs in each rank: the environment that torch and DeepSpeed read, then the process group."""
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
    _set_torch_distributed_env_vars()
    place = ray.train.get_context()
    seconds = int(GROUP_TIMEOUT.total_seconds())
    _setup_torch_process_group(kind, place.get_world_rank(), place.get_world_size(), "env://", seconds)


def _lost(failures: Mapping[int, Exception]) -> str:
    """The first rank that is gone and why; empty if all ranks were there to raise their errors."""
    for rank, failure in sorted(failures.items()):
        if isinstance(failure, WorkerHealthCheckFailedError | WorkerHealthCheckTimeoutError):
            reason = getattr(failure, "health_check_failure", failure)
            return f"rank {rank} is gone: {str(reason).strip().splitlines()[0]}"
    return ""
