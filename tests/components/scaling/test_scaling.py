"""The step reads what trainings left, fits, foretells the one that was held out, and says how it went."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from components.context import local_context
from components.errors import ConfigError, StepError
from components.publish import publish_json
from components.scaling.config import ScalingConfig
from components.scaling.step import scaling
from components.standalone import run_alone

QUICK = ScalingConfig(draws=20)


def training(folder, parameters, tokens, loss=None):
    """A pretrain artifact of a model with so many parameters: the files that the step reads."""
    (folder / "model").mkdir(parents=True)
    table, rest = parameters // 2, parameters - parameters // 2
    tensors = {"embed": np.zeros((table, 1), np.float32), "block": np.zeros(rest, np.float32)}
    save_file(tensors, folder / "model" / "model.safetensors")
    law = 0.8 + 3 * (parameters / 1e3) ** -0.4 + 4 * (tokens / 1e3) ** -0.3
    publish_json(folder / "curve.json", [{"step": tokens // 64, "val_bpb": law if loss is None else loss}])
    publish_json(folder / "order.json", {"steps": tokens // 64, "batch_size": 2, "length": 32})
    return folder


@pytest.fixture
def sweep(tmp_path):
    return {
        f"run_{n}_{d}": training(tmp_path / f"{n}-{d}", n, d)
        for n in (2000, 5000, 12000)
        for d in (64_000, 160_000, 320_000)
    }


def test_it_foretells_a_training_that_follows_the_same_law(tmp_path, sweep):
    context = local_context("scaling", tmp_path / "step")
    metrics = scaling(context, QUICK, held_out=training(tmp_path / "large", 30_000, 320_000), **sweep)
    assert abs(metrics["error"]) < 2e-3
    assert metrics["points"] == 9
    assert metrics["law_a"] == pytest.approx(0.4, abs=0.05)
    record = json.loads((context.output / "scaling.json").read_text())
    assert record["form"] == "chinchilla"
    assert record["held_out"]["parameters"] == 30_000
    assert {point["tokens"] for point in record["points"]} == {64_000, 160_000, 320_000}
    tables = json.loads((context.output / "tables.json").read_text())
    assert tables[0]["title"] == "Scaling law"
    assert tables[0]["rows"][-1][:3] == ["held_out", "30k", "320k"]
    page = (context.output / "scaling.md").read_text()
    assert "From 9 smaller trainings the law foretold" in page
    assert "E + A / N^a + B / D^b" in page


def test_sizes_are_foretold_by_the_others_where_there_are_enough(tmp_path, sweep):
    held_out = training(tmp_path / "large", 30_000, 320_000)
    context = local_context("scaling", tmp_path / "few")
    assert "coverage" not in scaling(context, QUICK, held_out=held_out, **sweep)
    sweep |= {f"run_20000_{d}": training(tmp_path / f"20000-{d}", 20_000, d) for d in (64_000, 160_000)}
    sweep["run_20000_320000"] = training(tmp_path / "20000-320000", 20_000, 320_000, loss=9.0)
    context = local_context("scaling", tmp_path / "more")
    metrics = scaling(context, QUICK, held_out=held_out, **sweep)
    record = json.loads((context.output / "scaling.json").read_text())
    told = {one["name"]: one for one in record["held_back"]}
    assert told.keys() == sweep.keys()
    spoilt = told["run_20000_320000"]
    assert spoilt["predicted"]["high"] < spoilt["loss"] == 9.0
    assert told["run_20000_64000"]["predicted"]["value"] == pytest.approx(told["run_20000_64000"]["loss"], rel=0.02)
    inside = [one["predicted"]["low"] <= one["loss"] <= one["predicted"]["high"] for one in told.values()]
    assert metrics["coverage"] == pytest.approx(sum(inside) / 12)
    tables = {table["title"]: table for table in json.loads((context.output / "tables.json").read_text())}
    assert "no" in {row[-1] for row in tables["Each size foretold by the others"]["rows"]}


def test_a_training_that_breaks_the_law_lies_outside_the_interval(tmp_path, sweep):
    context = local_context("scaling", tmp_path / "step")
    metrics = scaling(context, QUICK, held_out=training(tmp_path / "large", 30_000, 320_000, loss=9.0), **sweep)
    assert metrics["inside"] == 0
    assert metrics["error"] < -0.3
    assert "outside the interval" in (context.output / "scaling.md").read_text()


def test_it_runs_alone_over_any_trainings_by_name(tmp_path, sweep):
    held_out = training(tmp_path / "large", 30_000, 320_000)
    inputs = [f"--input={name}={path}" for name, path in {"held_out": held_out, **sweep}.items()]
    metrics = run_alone(scaling, ScalingConfig, [*inputs, "draws=20", "--output", str(tmp_path / "alone")])
    assert metrics["points"] == 9


def test_the_same_sweep_gives_the_same_bytes(tmp_path, sweep):
    held_out = training(tmp_path / "large", 30_000, 320_000)
    pages = []
    for name in ("one", "two"):
        context = local_context("scaling", tmp_path / name)
        scaling(context, QUICK, held_out=held_out, **sweep)
        pages.append((context.output / "scaling.json").read_bytes())
    assert pages[0] == pages[1]


def test_a_training_without_a_loss_is_named(tmp_path, sweep):
    sweep["run_bad"] = training(tmp_path / "bad", 3000, 64_000, loss=float("nan"))
    with pytest.raises(StepError, match="The training run_bad ended without bits per byte"):
        scaling(local_context("scaling", tmp_path / "step"), QUICK, held_out=sweep["run_2000_64000"], **sweep)


def test_too_few_trainings_are_refused(tmp_path, sweep):
    few = dict(list(sweep.items())[:3])
    with pytest.raises(StepError, match="has 3 trainings, a law of 3 numbers needs more"):
        scaling(local_context("scaling", tmp_path / "step"), QUICK, held_out=sweep["run_2000_64000"], **few)


def test_targets_are_foretold_with_an_interval(tmp_path, sweep):
    config = ScalingConfig(draws=20, targets=("1e6@1e7",))
    context = local_context("scaling", tmp_path / "step")
    scaling(context, config, held_out=training(tmp_path / "large", 30_000, 320_000), **sweep)
    [target] = json.loads((context.output / "scaling.json").read_text())["targets"]
    assert target["low"] <= target["value"] <= target["high"]
    assert target["value"] < 1.3


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"sizes": ("64by4",)}, "scaling.sizes"),
        ({"sizes": ("60x4", "64x4")}, "scaling.sizes"),
        ({"held_out": "64x2"}, "scaling.held_out"),
        ({"tokens": ("many",)}, "scaling.tokens"),
        ({"sizes": ("32x2",), "tokens": ("1000",)}, "scaling.sizes"),
        ({"form": "straight"}, "scaling.form"),
        ({"targets": ("1e9",)}, "scaling.targets"),
        ({"confidence": 1.0}, "scaling.confidence"),
    ],
)
def test_an_impossible_sweep_is_refused_with_its_key(settings, key):
    with pytest.raises(ConfigError) as refused:
        ScalingConfig(**settings)
    assert refused.value.where == key
