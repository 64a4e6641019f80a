"""What PPO does about numbers that are not finite, spikes, hangs, and a stop or a kill at a bad moment."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from components.channel import Channel
from components.context import local_context
from components.errors import Preempted, StepError
from components.launching import RankHung
from components.ppo.worker import Inputs, train_rank
from components.training.stability import GRADIENT, GRADIENT_SPIKE, LESSON, LOSS, Quarantine
from tests.components.ppo.faulty import Fault, results, train_with_faults
from tests.components.ppo.test_worker import journal, sayings

STEPS_OF_UPDATE = 4  # of each model: two epochs of two mini-batches, each one pass on one rank


@pytest.fixture
def short(config, vary):
    return vary(config, steps=6, eval_every=3)


def quarantined(scratch: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (scratch / "quarantine.jsonl").read_text().splitlines()]


def test_an_update_whose_rewards_are_not_finite_is_left_out_and_counted(short, inputs, rank):
    """The second pass of the judge after the evaluation at the start, 1 of 2 in the first update."""
    start = -(-short.eval_prompts // short.training.micro_batch)
    metrics = train_with_faults(short, inputs, (Fault("judge", "loss", (start + 1,)),), 5, rank)
    assert (metrics["updates"], metrics["skipped"]) == (6, 1)
    rows = journal(rank.channel)
    assert rows[1] == {"skipped": 1}
    assert {"score", "policy_loss", "skipped"} <= set(rows[2])
    [record] = quarantined(inputs.output)
    assert (record["step"], record["reason"], record["rows"]) == (0, LESSON, [0, 32])
    assert len(record["documents"]) == 32
    assert all(
        map(torch.isfinite, map(torch.tensor, json.loads((inputs.output / "curve.json").read_text())[-1].values()))
    )


@pytest.mark.parametrize("role", ["actor", "critic"])
@pytest.mark.parametrize(("what", "reason"), [("loss", LOSS), ("gradient", GRADIENT)])
def test_a_step_whose_loss_or_gradient_is_not_finite_is_left_out(short, inputs, rank, role, what, reason):
    metrics = train_with_faults(short, inputs, (Fault(role, what, (STEPS_OF_UPDATE + 1,)),), 5, rank)
    assert (metrics["updates"], metrics["skipped"]) == (6, 1)
    assert f"update 2 left out 1 steps, the last because {reason}" in sayings(rank.channel)
    assert [(record["step"], record["reason"]) for record in quarantined(inputs.scratch)] == [(1, reason)]
    assert metrics["score"] > metrics["score_before"]


def test_more_of_them_than_allowed_end_the_run_with_one_sentence(short, vary, inputs, rank):
    config = vary(short, max_skipped=3)
    with pytest.raises(
        StepError, match=r"^Training skipped 4 steps, last 1 because its gradient is not finite\."
    ) as end:
        train_with_faults(config, inputs, (Fault("critic", "gradient"),), 5, rank)
    assert end.value.where == "training.max_skipped=3"


def test_a_rewind_ends_where_a_run_without_that_update_ends(short, vary, inputs, rank, tmp_path):
    config = vary(short, spike="rewind", spike_window=8, checkpoint_every=2, steps=7)
    spike = Fault("actor", "spike", (4 * STEPS_OF_UPDATE - 2,))
    metrics = train_with_faults(config, inputs, (spike,), 5, rank)
    said = sayings(rank.channel)
    assert f"back from update 4 to update 2, because {GRADIENT_SPIKE}; it is left out" in said
    assert "update 4 is left out" in said
    assert metrics["skipped"] == 0
    last = journal(rank.channel)[7]
    assert (last["rewinds"], last["quarantined"]) == (1, 1)
    other = dataclasses.replace(inputs, output=tmp_path / "other", scratch=tmp_path / "clean")
    Quarantine(other.scratch / "quarantine.jsonl").add({"step": 3, "action": "rewind"}, write=True)
    clean = dataclasses.replace(rank, channel=Channel(tmp_path / "clean run"))
    train_rank(clean, config=config, inputs=other, seed=5)
    assert results(other.output) == results(inputs.output)
    rows, others = journal(rank.channel), journal(clean.channel)
    assert [rows[update] for update in range(3, 8)] == [others[update] for update in range(3, 8)]


def test_a_checkpoint_is_the_policy_and_beside_it_the_critic_as_transformers_load_them(short, vary, inputs, rank):
    train_rank(rank, config=vary(short, steps=2, warmup_steps=0), inputs=inputs, seed=5)
    folder = inputs.scratch / "checkpoints" / "step-000002"
    policy = AutoModelForCausalLM.from_pretrained(folder)
    trained = AutoModelForCausalLM.from_pretrained(inputs.output / "model")
    assert all(map(torch.equal, policy.parameters(), trained.parameters()))
    critic = AutoModelForSequenceClassification.from_pretrained(folder / "critic")
    assert critic.score.weight.shape == (1, 64)


def test_a_stop_does_not_wait_for_a_rollout_and_costs_no_bit(short, vary, inputs, rank, tmp_path):
    """Every token of the first update, before which the stop comes, takes half a second."""
    config = vary(short, steps=3, max_new_tokens=8, eval_prompts=1)
    other = dataclasses.replace(inputs, output=tmp_path / "other", scratch=tmp_path / "whole")
    train_rank(rank, config=config, inputs=other, seed=5)
    rank.channel.folder.joinpath("stop").touch()
    with pytest.raises(Preempted, match="after update 0 of 3"):
        train_with_faults(config, inputs, (Fault("replica", "slow", tuple(range(8, 24))),), 5, rank)
    rank.channel.folder.joinpath("stop").unlink()
    train_rank(rank, config=config, inputs=inputs, seed=5)
    assert results(other.output) == results(inputs.output)


@pytest.fixture
def two_ranks(short, vary, inputs, tmp_path):
    """Runs the config with faults on two ranks."""

    def run(*faults: Fault, **fields: object):
        config = vary(short, engine="deepspeed", ranks=2, micro_batch=8, **fields)
        context = local_context("ppo", tmp_path / "two")
        mine = Inputs(inputs.policy, inputs.reward, inputs.preferences, context.output, context.scratch)
        return context.launch(partial(train_with_faults, config, mine, faults, 5), 2)

    return run


@pytest.mark.parametrize("zero_stage", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_leave_out_together_what_is_not_finite_on_one(two_ranks, short, vary, inputs, rank, tmp_path, zero_stage):
    """What the others are told is in the reasons: a rank that judged by itself would give its own."""
    faults = (Fault("actor", "loss", (4,), 1), Fault("critic", "gradient", (9,), 0), Fault("judge", "loss", (10,), 1))
    metrics = two_ranks(*faults, zero_stage=zero_stage, steps=4)
    assert (metrics["updates"], metrics["skipped"]) == (4, 3)
    records = quarantined(tmp_path / "two" / "output")
    assert [(record["step"], record["reason"]) for record in records] == [(1, LOSS), (2, GRADIENT), (3, LESSON)]
    alone = train_with_faults(
        vary(short, steps=4), inputs, tuple(dataclasses.replace(one, rank=-1) for one in faults), 5, rank
    )
    assert metrics["score"] == pytest.approx(alone["score"], abs=0.05)


def test_a_rank_that_hangs_in_a_rollout_is_named_and_a_slow_rollout_is_not_a_hang(two_ranks, tmp_path):
    """A reply of the first evaluation takes longer than the limit; rank 1 falls asleep in the second update."""
    slow = Fault("replica", "slow", tuple(range(12)))
    hang = Fault("replica", "sleep", tuple(range(25, 40)), 1)
    with pytest.raises(RankHung, match=r"hang_timeout_s=4: rank 1 was answering prompts in step 2\."):
        two_ranks(slow, hang, hang_timeout_s=4.0, steps=3)
    assert "fall_asleep" in (tmp_path / "two/scratch/heartbeats/rank-1.stacks.txt").read_text()
