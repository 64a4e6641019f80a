"""A machine is lost in the middle of pretraining: it ends on fewer ranks with the losses of an undisturbed one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from counting_corpus import counting_corpus
from engine_help import states
from ray_head import Head, ray_head, ray_node

from pipelines.engine.events import fold, read_events, step_folder
from pipelines.engine.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TOLERANCE = 1e-5
"""Of the loss of each step, in nats: fp32 sums in another order, over all the steps that follow."""
STEPS = 160

TRAIN = """
import dataclasses, sys, threading, time
from pathlib import Path
from components.model.config import ModelConfig
from components.pretrain.config import PretrainConfig
from components.pretrain.step import pretrain
from components.publish import publish_json
from components.training.config import TrainingConfig
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.plan import make_plan
from pipelines.engine.remote import connect
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
address, root, run, corpus, ranks, steps = sys.argv[1:]
training = TrainingConfig(
    steps=int(steps), batch_size=12, micro_batch=2, lr=2e-3, warmup_steps=10, ranks=int(ranks), min_ranks=1,
    eval_every=40, log_every=1, checkpoint_every=5,
)
shape = ModelConfig(dim=32, num_layers=2, num_heads=2, num_kv_heads=1, ffn_dim=64, max_length=64)
config = PretrainConfig(model=shape, training=training, length=32, samples=())
recipe = Recipe("elastic")
given = {name: recipe.file(Path(corpus) / name / "output", name) for name in ("tokens", "tokenizer")}
recipe.step(pretrain, config, ranks=int(ranks), min_ranks=1, **given)
store = Store(root)
plan = make_plan(recipe.steps, store)
folder = store.run_folder(run)
publish_json(folder / "plan.json", plan.to_json())
kind = "ray" if address else "inprocess"
cluster = ClusterConfig(kind=kind, address=address or "auto", node_wait_s=3.0, lease_s=6.0)
if address:
    import ray
    connect(cluster)
    while sum(node["Alive"] for node in ray.nodes()) < 3:
        time.sleep(0.1)
status = execute(plan, store, folder, cluster, threading.Event())
print(status.error)
sys.exit(status.exit_code)
"""


def start(store: Store, corpus: Path, run: str, ranks: int, head: Head | None = None) -> subprocess.Popen[bytes]:
    words = [head.address if head else "", store.root.url, run, str(corpus), str(ranks), str(STEPS)]
    environment = {**os.environ, **(head.environment if head else {})}
    return subprocess.Popen([sys.executable, "-c", TRAIN, *words], env=environment)


def until(condition: Callable[[], bool], deadline_s: float = 400.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def losses(store: Store, run: str) -> dict[int, float]:
    """The loss of each step; of a step that was done twice, the later one."""
    lines = (step_folder(store.run_folder(run), "pretrain") / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    logged = [record for record in records if record["kind"] == "metrics"]
    return {int(record["step"]): record["values"]["loss"] for record in logged if "loss" in record["values"]}


def saved(store: Store) -> list[Path]:
    return list(Path(store.root.url).rglob("checkpoints/step-*/MANIFEST.json"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return counting_corpus(tmp_path / "corpus")


def test_training_on_what_is_left_has_the_losses_of_an_undisturbed_one(tmp_path: Path, corpus: Path):
    alone, shared = Store(tmp_path / "alone"), Store(tmp_path / "shared")
    assert start(alone, corpus, "undisturbed", ranks=1).wait(600) == 0
    with ray_head(num_cpus=1) as head, ExitStack() as nodes:
        lost, _ = (nodes.enter_context(ray_node(head)) for _ in range(2))
        driver = start(shared, corpus, "disturbed", 3, head)
        until(lambda: len(saved(shared)) > 0)
        lost.kill()
        assert driver.wait(600) == 0
    status = fold(shared.run_folder("disturbed"))
    assert states(status) == {"pretrain": "done"}
    placed = [str(event["note"]) for event in read_events(shared.run_folder("disturbed")) if event["kind"] == "placing"]
    assert placed[0].startswith("for 3 x 1")
    assert placed[-1].startswith("2 ranks instead of 3")

    expected, found = losses(alone, "undisturbed"), losses(shared, "disturbed")
    assert sorted(found) == sorted(expected) == list(range(1, STEPS + 1))
    worst = max(abs(found[step] - expected[step]) for step in expected)
    assert worst < TOLERANCE
    print(f"largest difference of a step's loss: {worst:.2e}")
