"""The recipe `scaling`: what it declares, and a whole sweep in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.errors import ConfigError
from pipelines.cli import main
from pipelines.config import load_settings
from pipelines.recipes.scaling import pretrain_config
from pipelines.verbs.planning import steps_of

SMALL = ["recipe=scaling", "preset=micro"]


def test_every_size_is_trained_on_every_number_of_tokens_and_shares_the_corpus() -> None:
    steps = {step.name: step for step in steps_of(load_settings(SMALL))}
    trained = {name for name in steps if name.startswith("pretrain_")}
    assert trained == {
        "pretrain_16x1_2048",
        "pretrain_16x1_4096",
        "pretrain_32x1_2048",
        "pretrain_32x1_4096",
        "pretrain_32x2_4096",
    }
    assert {steps[name].inputs["tokens"].name for name in trained} == {"tokens"}
    assert steps["scaling"].inputs["held_out"].name == "pretrain_32x2_4096"
    assert set(steps["scaling"].producers) == trained


def test_each_training_has_its_size_and_a_schedule_that_ends_with_its_tokens() -> None:
    words = ["pretrain.training.batch_size=4", "pretrain.training.micro_batch=2", "scaling.lr_exponent=0.5"]
    settings = load_settings(["recipe=scaling", *words])
    config = pretrain_config(settings, "64x4", 262_144)
    assert (config.model.dim, config.model.num_layers, config.model.num_heads, config.model.ffn_dim) == (64, 4, 4, 176)
    assert config.training.steps * config.training.batch_size * config.length == 262_144
    assert config.training.ranks == 1
    narrow, wide = (pretrain_config(settings, size, 262_144).training.lr for size in ("32x2", "128x2"))
    assert narrow == pytest.approx(2 * wide)


def test_fewer_tokens_than_two_steps_read_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"scaling\.tokens has 600, but one step reads 512"):
        pretrain_config(load_settings(SMALL), "16x1", 600)


def test_an_objective_without_bits_per_byte_is_refused() -> None:
    settings = load_settings([*SMALL, "pretrain.objective=masked", "pretrain.model.family=bert"])
    with pytest.raises(ConfigError, match="bits per byte"):
        steps_of(settings)


@pytest.mark.slow
def test_a_sweep_ends_with_a_law_and_a_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "cluster=inprocess", "tracking=off", f"store={tmp_path / 'store'}"]
    assert main(["run", *words]) == 0
    said = capsys.readouterr().out
    assert "held_out" in said
    [path] = (tmp_path / "store").glob("artifacts/scaling/*/**/scaling.json")
    record = json.loads(path.read_text())
    assert len(record["points"]) == 4
    assert record["held_out"]["loss"] > 0
    report = next((tmp_path / "store").glob("runs/*/report.md")).read_text()
    assert "Scaling law" in report
