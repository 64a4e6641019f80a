"""Real runs of a small recipe, driven by the engine in this process, and a fresh MLflow database for each test."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.context import Context, Metrics
from components.errors import StepError
from components.publish import publish_bytes, publish_json
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.plan import Plan, make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
from pipelines.tracking.client import ENVIRONMENT
from pipelines.tracking.config import TrackingConfig, mlflow_folder
from pipelines.tracking.schema import ensure_database

VERSION = 1


@dataclass(frozen=True)
class CollectConfig:
    """Settings of the first step."""

    pages: int = 3
    token: str = "canary-4711"


@dataclass(frozen=True)
class TeachConfig:
    """Settings of the second step."""

    steps: int = 5
    training: CollectConfig = field(default_factory=CollectConfig)


@dataclass(frozen=True)
class JudgeConfig:
    """Settings of the third step."""

    fail: bool = False


def collect(ctx: Context, config: CollectConfig) -> Metrics:
    (ctx.output / "pages.txt").write_text("page\n" * config.pages)
    ctx.progress(config.pages, config.pages, "pages")
    return {"kept": float(config.pages)}


def teach(ctx: Context, config: TeachConfig, documents: Path) -> Metrics:
    for step in range(1, config.steps + 1):
        ctx.log({"loss": 1.0 / step, "lr": 0.1}, step)
    (ctx.output / "model").mkdir()
    (ctx.output / "model" / "config.json").write_text("{}")
    return {"loss": 1.0 / config.steps, "strange name?": 1.0}


def judge(ctx: Context, config: JudgeConfig, model: Path) -> Metrics:
    if config.fail:
        raise StepError("the judge sees nothing.", where="judge", fix="give it light")
    return {"score": 0.5}


def write_records(store: Path, run_id: str, steps: int = 5, fail: bool = False, uri: str = "") -> tuple[Path, Plan]:
    """Makes a run folder as it is before anything runs."""
    recipe = Recipe("small")
    pages = recipe.step(collect, CollectConfig())
    model = recipe.step(teach, TeachConfig(steps=steps), documents=pages)
    recipe.step(judge, JudgeConfig(fail), model=model)
    plan = make_plan(recipe.steps, Store(store))
    folder = store / "runs" / run_id
    configs = {step.name: asdict(step.config) for step in recipe.steps}
    publish_bytes(folder / "config.yaml", yaml.safe_dump({**configs, "tracking": {"uri": uri}}).encode())
    publish_json(folder / "plan.json", plan.to_json())
    record = {
        "id": run_id,
        "recipe": "small",
        "preset": "tiny",
        "created": time.time(),
        "command": "headwater run teach.steps=5",
        "overrides": [f"teach.steps={steps}"],
        "git": {"commit": "c0ffee", "dirty": True},
    }
    publish_json(folder / "run.json", record)
    return folder, plan


def run_recipe(store: Path, run_id: str, steps: int = 5, fail: bool = False, uri: str = "") -> Path:
    """Drives the recipe to its end in this process and returns the run folder."""
    folder, plan = write_records(store, run_id, steps, fail, uri)
    execute(plan, Store(store), folder, ClusterConfig(kind="inprocess"), threading.Event())
    return folder


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ.update(ENVIRONMENT)
    return ensure_database(tmp_path_factory.mktemp("schema"))


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Path:
    """A store whose MLflow database is ready."""
    mlflow_folder(tmp_path).mkdir()
    shutil.copyfile(empty_database, mlflow_folder(tmp_path) / "mlflow.db")
    return tmp_path


@pytest.fixture
def config() -> TrackingConfig:
    return TrackingConfig(linger_s=20.0, flush_s=20.0)


@pytest.fixture
def drive() -> Callable[..., Path]:
    return run_recipe


@pytest.fixture
def prepare() -> Callable[..., tuple[Path, Plan]]:
    return write_records


@dataclass(frozen=True)
class Seen:
    """What MLflow holds of one pipeline run."""

    parent: Any
    children: Mapping[str, Any]
    history: Mapping[str, Mapping[str, list[tuple[int, float]]]]


@pytest.fixture
def look() -> Callable[[Any, str], Seen]:
    """Reads a pipeline run back from MLflow through its public client."""

    def read(client: Any, run_id: str) -> Seen:
        experiment = client.get_experiment_by_name("headwater")
        found = client.search_runs([experiment.experiment_id], f"tags.`headwater.run` = '{run_id}'")
        runs = [client.get_run(run.info.run_id) for run in found]
        (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        children = {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}
        assert len(children) == len(runs) - 1
        assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} <= {parent.info.run_id}
        history = {
            name: {
                key: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key))
                for key in run.data.metrics
            }
            for name, run in children.items()
        }
        return Seen(parent, children, history)

    return read
