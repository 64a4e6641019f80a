"""Every engine, stage, number of ranks and micro-batch learns the same; checkpoints go from any to any.

Starting ranks costs seconds, so each `launch` does the work of many tests and these look at its parts.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from components.context import local_context
from components.launching import RankLost, prepare_process
from components.training.deepspeed_json import compare, deepspeed_json
from tests.components.training import toy
from tests.components.training.conftest import CONFIG

STAGES = (0, 1, 2, 3)
DEEPSPEED = dataclasses.replace(CONFIG, engine="deepspeed")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The oracle: the toy on plain torch, also with a poisoned step and with its gradient norms."""
    context = local_context("plain", tmp_path_factory.mktemp("plain"))
    one = dataclasses.replace(CONFIG, checkpoint_every=0)

    def work(rank):
        return {
            "whole": toy.as_json(*toy.run(one, rank, context.scratch / "a")),
            "poisoned": toy.as_json(*toy.run(one, rank, context.scratch / "b", toy.ToyTask(one, [5]))),
            "norms": toy.gradient_norms(one, rank),
        }

    return context.launch(work, 1)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two ranks learn, and the folder with the checkpoints they left half way."""
    context = local_context("two", tmp_path_factory.mktemp("two"))
    config = dataclasses.replace(DEEPSPEED, ranks=2)
    return context.launch(partial(toy.all_of_it, config, context.scratch), 2), context.scratch / "saved"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, two_ranks):
    """All stages, on one rank and on two."""
    context = local_context("one", tmp_path_factory.mktemp("one"))
    one = context.launch(partial(toy.train_at_each_stage, DEEPSPEED, context.scratch), 1)
    return {1: one, 2: two_ranks[0]["stages"]}


def assert_same_training(result, oracle, tolerance=1e-5):
    for row, expected in zip(result["curve"], oracle["curve"], strict=True):
        assert row == pytest.approx(expected, rel=tolerance)
    assert result["weights"] == pytest.approx(oracle["weights"], abs=tolerance)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("micro_batch", [8, 4])
def test_every_stage_learns_what_plain_torch_learns(trained, plain, ranks, stage, micro_batch):
    assert_same_training(trained[ranks][f"{stage}/{micro_batch}"], plain["whole"])


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_skips_a_gradient_that_is_not_finite(trained, plain, ranks, stage):
    result = trained[ranks][f"{stage}/poisoned"]
    assert result["skipped"] == 1
    assert_same_training(result, plain["poisoned"])


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_reports_the_gradient_norm(trained, plain, ranks, stage):
    assert trained[ranks][f"{stage}/norms"] == pytest.approx(plain["norms"], rel=1e-5)


def test_a_checkpoint_of_any_stage_continues_on_any_stage_and_number_of_ranks(tmp_path, two_ranks):
    one = local_context("one", tmp_path)
    finished = one.launch(partial(toy.load_and_finish, DEEPSPEED, two_ranks[1]), 1)
    expected = one.launch(partial(toy.straight_through, CONFIG), 1)
    assert set(finished) == {f"{saved}->{stage}" for saved in STAGES for stage in STAGES}
    for name, weights in finished.items():
        assert weights == pytest.approx(expected, abs=1e-5), name


@pytest.mark.parametrize("stage", [1, 3])
def test_two_ranks_that_died_end_with_the_bits_of_two_that_did_not(two_ranks, stage):
    result = two_ranks[0][f"resume {stage}"]
    assert result["resumed"] == result["whole"]


def test_all_ranks_stop_at_the_same_step(two_ranks):
    assert two_ranks[0]["stopped"] == [1.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_rank_killed_in_the_middle_costs_no_bit(tmp_path, stage):
    config = dataclasses.replace(DEEPSPEED, ranks=2, zero_stage=stage)
    context = local_context("kill", tmp_path)
    with pytest.raises(RankLost):
        context.launch(partial(toy.run_and_kill, config, tmp_path / "killed", 8), 2)
    resumed = context.launch(partial(toy.run_and_kill, config, tmp_path / "killed", -1), 2)
    said = [line["text"] for line in toy.journal(tmp_path, "text")]
    # The checkpoint of step 6 is written behind the training's back: it may not have been published yet.
    assert {"training continues from step 3", "training continues from step 6"} & {*said}
    assert resumed == context.launch(partial(toy.run_and_kill, config, tmp_path / "whole", -1), 2)


def test_in_bf16_every_stage_follows_the_fp32_curve_and_skips(tmp_path, plain):
    context = local_context("bf16", tmp_path)
    results = context.launch(partial(toy.train_in_bf16, DEEPSPEED, context.scratch), 1)
    for stage in STAGES:
        result = results[str(stage)]
        assert result["skipped"] == 1
        for row, expected in zip(result["curve"], plain["poisoned"]["curve"], strict=True):
            assert row == pytest.approx(expected, rel=0.03), stage


def test_deepspeed_holds_the_settings_it_was_given(tmp_path):
    def work(rank):
        engine = toy.deepspeed_engine(DEEPSPEED, rank)
        held = engine.settings()
        engine.close()
        return held

    prepare_process("cpu")
    held = local_context("held", tmp_path).launch(work, 1)
    parameters = sum(parameter.numel() for parameter in toy.Toy().parameters())
    assert held == deepspeed_json(DEEPSPEED, 1, torch.float32, parameters)


def test_a_setting_that_deepspeed_changed_is_an_error_that_names_it():
    with pytest.raises(RuntimeError, match=r"gradient_clipping: 1\.0 became 0\.0"):
        compare({"gradient_clipping": 1.0, "train_batch_size": 8}, {"gradient_clipping": 0.0, "train_batch_size": 8})
