"""Two families, two optimizers: one loss curve, whatever engine, ZeRO stage, number of ranks and micro-batch trains it.

Ranks cost seconds to start, so all variants of a number of ranks share one launch.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest

from components.context import local_context
from tests.components.training import small

OPTIMIZERS = ("adamw", "muon")
PLAIN = {f"{family}/{optimizer}": {"optimizer": optimizer} for family in small.MODELS for optimizer in OPTIMIZERS}
SHARDED = {
    f"{name}/{stage}/{micro_batch}": {**changes, "zero_stage": stage, "micro_batch": micro_batch}
    for name, changes in PLAIN.items()
    for stage, micro_batch in ((0, 4), (1, 2), (2, 4), (3, 2))
}
PACKED = {f"{family}/packed": {} for family in small.MODELS}
SEQUENCES = {
    "llama/adamw/sequences/1": {"sequence_parallel": 2, "zero_stage": 1},
    "gpt2/adamw/sequences/3": {"sequence_parallel": 2, "zero_stage": 3},
    "llama/packed/sequences/2": {"sequence_parallel": 2, "zero_stage": 2, "micro_batch": 2},
    "gpt2/packed/sequences/0": {"sequence_parallel": 2, "zero_stage": 0},
}
MATRICES = {
    "llama/adamw/matrices/1": {"tensor_parallel": 2, "zero_stage": 1},
    "gpt2/adamw/matrices/2": {"tensor_parallel": 2, "zero_stage": 2, "micro_batch": 2},
    "llama/packed/matrices/3": {"tensor_parallel": 2, "zero_stage": 3},
    "gpt2/adamw/matrices/reloaded/1": {"tensor_parallel": 2, "zero_stage": 1},
    "llama/adamw/matrices/reloaded/3": {"tensor_parallel": 2, "zero_stage": 3},
}
RELOADED = {f"llama/muon/reloaded/{stage}": {"zero_stage": stage, "optimizer": "muon"} for stage in (0, 1, 2, 3)}
OTHERS = {
    "llama/adamw/offload/1": {"zero_stage": 1, "offload": "cpu"},
    "llama/muon/offload/3": {"zero_stage": 3, "offload": "cpu", "optimizer": "muon"},
    "llama/adamw/recompute/2": {"zero_stage": 2, "recompute": "blocks"},
    "llama/adamw/recompute/3": {"zero_stage": 3, "recompute": "blocks"},
    "llama/adamw/table/3": {
        "zero_stage": 3,
        "deepspeed": {"zero_optimization.stage3_max_live_parameters": "1000", "zero_optimization.overlap_comm": "true"},
    },
}
VARIANTS = {
    2: SHARDED | OTHERS | SEQUENCES | MATRICES | RELOADED,
    1: {name: SHARDED[name] for name in SHARDED if name.startswith(("llama/muon", "gpt2/adamw"))},
}


def launch(tmp_path_factory, ranks, variants, **changes):
    config = dataclasses.replace(small.CONFIG, ranks=ranks, **changes)
    context = local_context("parity", tmp_path_factory.mktemp(f"parity{ranks}"))
    return context.launch(partial(small.train_all, config, variants), ranks)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The oracle."""
    return launch(tmp_path_factory, 1, PLAIN | PACKED)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """Each optimizer at each ZeRO stage, on one rank and on two."""
    return {
        ranks: launch(tmp_path_factory, ranks, variants, engine="deepspeed") for ranks, variants in VARIANTS.items()
    }


@pytest.mark.parametrize(("ranks", "name"), [(ranks, name) for ranks in VARIANTS for name in VARIANTS[ranks]])
def test_every_stage_and_number_of_ranks_follows_the_curve_of_plain_torch(sharded, plain, ranks, name):
    result, oracle = sharded[ranks][name], plain["/".join(name.split("/")[:2])]
    assert result["losses"] == pytest.approx(oracle["losses"], rel=1e-6)
    assert result["weights"] == pytest.approx(oracle["weights"], abs=2e-5)
    assert result["step"] == oracle["step"] == small.STEPS
    assert result["moments"] == pytest.approx(oracle["moments"], rel=1e-4, abs=1e-7)


def test_both_optimizers_learn_and_not_the_same(plain):
    for family in small.MODELS:
        muon, adamw = plain[f"{family}/muon"]["losses"], plain[f"{family}/adamw"]["losses"]
        assert max(muon[-1], adamw[-1]) < 0.97 * adamw[0]
        assert muon[-1] != pytest.approx(adamw[-1], rel=1e-3)


@pytest.mark.slow  # the compiler takes half a minute
@pytest.mark.parametrize(
    "variant", [{}, {"engine": "deepspeed", "zero_stage": 1}, {"engine": "deepspeed", "zero_stage": 3}]
)
def test_compiled_blocks_follow_the_same_curve(tmp_path_factory, plain, variant):
    compiled = launch(tmp_path_factory, 1, {"llama/adamw": {"compile": True, "recompute": "blocks", **variant}})
    assert compiled["llama/adamw"]["losses"] == pytest.approx(plain["llama/adamw"]["losses"], rel=1e-6)
    assert compiled["llama/adamw"]["weights"] == pytest.approx(plain["llama/adamw"]["weights"], abs=2e-5)
