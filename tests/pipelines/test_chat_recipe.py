"""The whole recipe, for real, in the micro preset: on local Ray, again from the cache, and on a cluster by `submit`.

Two runs serve all tests of this file, one of the whole recipe and one of pretraining, from the corpus of the first.
That one is killed in pretraining (its driver gets SIGKILL) and continued by a job on a real Ray cluster with token
authentication.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_head import Head, port_above_workers

from components.context import free_port
from pipelines.cli import main
from pipelines.engine.events import fold
from pipelines.engine.store import Store
from pipelines.runs import all_runs
from pipelines.verbs.show import artifact_of

ROOT = Path(__file__).resolve().parents[2]
STEPS = ["site", "crawl", "instructions", "preferences", "extract", "score", "sketch", "clean", "dedup"]
TRAINED = ["pretrain", "sft", "reward", "ppo", "evaluate"]
STEPS += ["decontaminate", "tokenizer", "tokens", "pack", "card", *TRAINED]

pytestmark = pytest.mark.timeout(1200)


def headwater(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *words]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


def state_of(store: Path) -> dict[str, str]:
    return {step.name: step.state for step in fold(all_runs(store)[0]).steps.values()}


def artifact(store: Path, step: str) -> Path:
    """The artifact of the newest run that finished the step."""
    done = [run for run in all_runs(store) if fold(run).steps[step].state in ("done", "cached")]
    return artifact_of(Store(store), done[0], step)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    store = tmp_path_factory.mktemp("finished") / "store"
    done = headwater("run", "preset=micro", f"store={store}", "--run-id", "first-1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return store, done


def test_one_command_ends_with_scores_and_a_report(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    store, done = finished
    assert state_of(store) == dict.fromkeys(STEPS, "done")
    for word in ("base", "sft", "ppo", "unigram", "run first-1 done"):
        assert word in done.stdout
    report = store / "runs" / "first-1" / "report.html"
    assert "ppo" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["pretrain", "sft", "ppo"])
def test_every_trained_model_loads_in_transformers_with_equal_logits(
    finished: tuple[Path, subprocess.CompletedProcess[str]], stage: str
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from components.model.huggingface import load_transformer

    folder = artifact(finished[0], stage) / "model"
    ids = AutoTokenizer.from_pretrained(folder)("Hello, how are you? 你好", return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits
        ours = load_transformer(folder).eval()(ids)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_reward_model_loads_in_transformers_with_equal_scores(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from components.model.huggingface import load_scalar

    folder = artifact(finished[0], "reward") / "model"
    ids = AutoTokenizer.from_pretrained(folder)("Hello there", return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()(ids).logits[0, 0]
        ours = load_scalar(folder).eval()(ids)[0, -1]
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_model_answers(
    finished: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "-m", "hello", "--json", f"store={finished[0]}"]) == 0
    assert json.loads(capsys.readouterr().out)["reply"].strip() != ""


def test_mlflow_shows_a_parent_and_a_child_for_every_step(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    from mlflow import MlflowClient

    store, _ = finished
    client = MlflowClient(f"sqlite:///{store / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("headwater")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=200)
    (parent,) = [run for run in runs if run.info.run_name == "first-1"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.run_name.split("/")[-1] for run in children} == set(STEPS)
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    (pretrain,) = [run for run in children if run.info.run_name.split("/")[-1] == "pretrain"]
    curve = client.get_metric_history(pretrain.info.run_id, "pretrain/val_bpb")
    assert {0, 60} <= {point.step for point in curve} or len(curve) >= 4
    assert pretrain.inputs.dataset_inputs != []


def test_one_changed_threshold_reruns_exactly_what_depends_on_it(
    finished: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--json", "preset=micro", "clean.min_chars=333", f"store={finished[0]}"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    states = {step["step"]: step["state"] for step in steps}
    kept = {"site", "crawl", "extract", "score", "sketch", "instructions", "preferences"}
    assert states == {name: "cached" if name in kept else "runs" for name in STEPS}
    reason = next(step["reason"] for step in steps if step["step"] == "clean")
    assert "min_chars" in reason
    assert "-> 333" in reason


def test_a_second_run_is_cached_whole_and_starts_no_ray(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    store, _ = finished
    script = (
        "import sys\nfrom pipelines.cli import main\n"
        f"code = main(['run', 'preset=micro', 'store={store}', '--run-id', 'second-2'])\n"
        "sys.exit('imported ray or torch' if {'ray', 'torch'} & set(sys.modules) else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert state_of(store) == dict.fromkeys(STEPS, "cached")


def test_an_empty_corpus_after_cleaning_fails_with_the_sentence_and_keeps_what_is_done(
    finished: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = finished
    assert main(["run", "preset=micro", "clean.min_chars=1000000", f"store={store}", "cluster=inprocess"]) == 1
    said = capsys.readouterr().err
    assert "clean kept 0 of" in said
    assert "clean.min_chars=1000000" in said
    states = state_of(store)
    assert (states["extract"], states["clean"], states["dedup"]) == ("cached", "failed", "skipped")


@pytest.fixture(scope="module")
def ray_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Ray head node of its own, as infra/ray-head.sh starts it; ended by process id, never by `ray stop`."""
    folder = Path("/tmp") / f"hw-{secrets.token_hex(3)}"
    dashboard = free_port()
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PORT": str(port_above_workers()),
        "DASHBOARD_PORT": str(dashboard),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    words = ["bash", str(ROOT / "infra" / "ray-head.sh"), "--num-cpus=2", f"--temp-dir={folder}"]
    words += ["--object-store-memory=200000000", f"--ray-client-server-port={port_above_workers()}"]
    words += [f"--dashboard-agent-listen-port={port_above_workers()}"]
    with subprocess.Popen(words, env={**os.environ, **environment}, start_new_session=True) as head:
        try:
            yield {**environment, "DASHBOARD": f"http://127.0.0.1:{dashboard}"}
        finally:
            Head("", environment, folder, head).kill()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def killed(finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the corpus of the finished run, whose run was killed in pretraining after its first checkpoint."""
    store = tmp_path_factory.mktemp("killed") / "store"
    for folder in ("artifacts", "index"):
        shutil.copytree(finished[0] / folder, store / folder, ignore=shutil.ignore_patterns(*TRAINED))
    command = [sys.executable, "-m", "pipelines.cli", "run", "preset=micro", f"store={store}", "--run-id", "killed-1"]
    command += ["--until", "pretrain"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 600
        while not list(store.glob("scratch/pretrain/*/checkpoints/*/MANIFEST.json")):
            assert driver.poll() is None, "the run ended before pretraining had a checkpoint"
            assert time.monotonic() < deadline, "pretraining had no checkpoint within ten minutes"
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    return store


def test_a_killed_run_continues_by_submit_and_learns_the_same(
    finished: tuple[Path, subprocess.CompletedProcess[str]], ray_head: dict[str, str], killed: Path
) -> None:
    """The head is asked for first, so that it comes up while the run that will be killed goes."""
    assert fold(all_runs(killed)[0]).state == "interrupted"
    head = dict(ray_head)
    dashboard = head.pop("DASHBOARD")
    common = ("submit", "--wait", "--until", "pretrain", f"store={killed}", f"cluster.dashboard={dashboard}")
    words = (*common, "--resume", "killed-1")
    done = headwater(*words, **head)
    for _ in range(60):
        if done.returncode == 0 or "no Ray cluster answers" not in done.stderr:
            break
        time.sleep(1)
        done = headwater(*words, **head)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    states = state_of(killed)
    assert {"crawl", "tokenizer", "pack", "pretrain"} <= set(states) < set(STEPS)
    assert states == {name: "done" if name == "pretrain" else "cached" for name in states}
    journal = (killed / "runs" / "killed-1" / "steps" / "pretrain" / "journal.jsonl").read_text(encoding="utf-8")
    assert "training continues from step" in journal
    undisturbed, resumed = (
        json.loads((artifact(store, "pretrain") / "curve.json").read_text(encoding="utf-8"))
        for store in (finished[0], killed)
    )
    assert resumed == undisturbed

    words = (*common, "preset=micro", "--run-id", "job-2")
    assert headwater(*words, **head).returncode == 0
    assert state_of(killed) == dict.fromkeys(states, "cached")
    refused = headwater(*words, **head)
    assert refused.returncode == 2
    assert "submitted before" in refused.stderr
    wrong = headwater(*words, **{**head, "RAY_AUTH_TOKEN": "0" * 64})
    assert wrong.returncode == 4
    assert "does not accept the token" in wrong.stderr
