"""`headwater estimate`: sizes, arithmetic and memory of a recipe's trainings, told before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import main


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"store={tmp_path / 'store'}"


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, float]]:
    assert main(["estimate", "--json", *words]) == 0
    return {step["step"]: step for step in json.loads(capsys.readouterr().out)["steps"]}


def test_each_training_of_the_recipe_is_estimated(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    steps = told(capsys, store, "preset=micro")
    assert list(steps) == ["pretrain", "sft", "reward"]
    pretrain = steps["pretrain"]
    assert pretrain["parameters"] == 1024 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160 + 2 * 64) + 64
    assert pretrain["memory_bytes"] == pytest.approx(sum(pretrain["parts"].values()))
    assert pretrain["fits"] is True
    assert pretrain["tokens_per_second"] is None


def test_the_settings_move_the_estimate(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    common = [store, "recipe=pretrain", "model=gpt2-124m", "pretrain.training.batch_size=32", "pretrain.length=512"]
    one = told(capsys, *common, "pretrain.training.micro_batch=16")["pretrain"]
    less = told(capsys, *common, "pretrain.training.micro_batch=4")["pretrain"]
    again = told(capsys, *common, "pretrain.training.micro_batch=16", "pretrain.training.recompute=blocks")["pretrain"]
    assert less["parts"]["activations"] * 4 == pytest.approx(one["parts"]["activations"])
    assert again["parts"]["activations"] < one["parts"]["activations"] / 4
    assert again["parts"]["weights"] == one["parts"]["weights"]


def test_what_does_not_fit_is_told_with_the_sentence_of_its_refusal(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", store, "recipe=pretrain", "model=llama-70b"]) == 0
    said = capsys.readouterr().out
    assert "pretrain would be refused" in said
    assert "fix: take a smaller model=" in said


def test_every_training_of_a_sweep_is_a_row(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    steps = told(capsys, store, "recipe=scaling", "preset=micro")
    assert len(steps) == 5
    assert steps["pretrain_32x2_4096"]["parameters"] > steps["pretrain_16x1_4096"]["parameters"]


def test_it_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pipelines.cli import main\n"
        "main(['estimate', 'model=llama-8b', f'store={sys.argv[1]}'])\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 0


def test_a_model_of_transformers_to_go_on_from_is_counted_by_its_config(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoConfig

    size = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    neox = AutoConfig.for_model("gpt_neox", **size, intermediate_size=48, max_position_embeddings=96)
    neox.save_pretrained(tmp_path / "neox")
    words = [store, "recipe=pretrain", "preset=micro", "pretrain.length=64", f"pretrain.init={tmp_path / 'neox'}"]
    row = told(capsys, *words)["pretrain"]
    layers = 2 * (4 * 32 * 32 + 2 * 32 * 48)
    assert row["flops_per_token_palm"] == 6 * (layers + 300 * 32) + 12 * 2 * 32 * 64
    assert row["flops_per_token_causal"] == 6 * (layers + 300 * 32) + 6 * 2 * 32 * 64
    assert row["memory_bytes"] is None
    AutoConfig.for_model("mamba", vocab_size=300, hidden_size=32, num_hidden_layers=2).save_pretrained(tmp_path / "ssm")
    assert main(["estimate", *words[:-1], f"pretrain.init={tmp_path / 'ssm'}"]) == 0
    assert "pretrain: FLOPs are not known, for" in capsys.readouterr().out
