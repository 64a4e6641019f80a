"""Rewards of a rollout worked out by hand, and batches that nobody's share can change."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.posttrain.prompts import Prompt
from components.ppo.config import PpoConfig
from components.ppo.learn import describe_rollout, make_lesson, micro_batches
from components.ppo.rollout import Rollout, draw_prompts

PLAIN = PpoConfig(gamma=1.0, lam=1.0, whitening="none", missing_eos_penalty=0.5, min_reply_tokens=0)


def make_rollout(lengths, prompt=3, width=12):
    """Episodes with prompts of equal length and replies of the given lengths; numbers differ everywhere."""
    mask = torch.zeros(len(lengths), width - 1, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask[row, prompt - 1 : prompt - 1 + length] = True
    grid = torch.arange(mask.numel()).view(mask.shape) / 100
    return Rollout(
        tokens=torch.arange(len(lengths) * width).view(-1, width),
        mask=mask,
        finished=torch.tensor([length % 2 == 0 for length in lengths]),
        sampled=-grid * mask,
        log_probs=-grid * mask,
        reference=(-grid - 0.1) * mask,
        values=grid * mask,
        entropy=grid * mask,
        scores=torch.arange(len(lengths)) + 1.0,
    )


def test_each_token_pays_for_its_drift_and_the_last_one_gets_the_score():
    lesson = make_lesson(make_rollout([2, 4]), PLAIN, kl_coefficient=2.0)
    price = -2.0 * 0.1
    assert lesson.rewards[0, 2:5].tolist() == pytest.approx([price, price + 1.0, 0.0])
    assert lesson.rewards[1, 2:7].tolist() == pytest.approx([price, price, price, price + 2.0, 0.0])


def test_a_reply_that_was_cut_pays_the_penalty():
    lesson = make_lesson(make_rollout([3, 2]), PLAIN, kl_coefficient=0.0)
    assert lesson.rewards.sum(1).tolist() == pytest.approx([1.0 - 0.5, 2.0])


def test_a_short_reply_pays_for_what_is_missing():
    config = dataclasses.replace(PLAIN, min_reply_tokens=4, short_penalty=2.0)
    lesson = make_lesson(make_rollout([2, 4, 6]), config, kl_coefficient=0.0)
    assert lesson.rewards.sum(1).tolist() == pytest.approx([1.0 - 2.0 * 0.5, 2.0, 3.0])


def test_returns_are_what_is_still_to_come_when_lambda_is_1():
    lesson = make_lesson(make_rollout([2]), PLAIN, kl_coefficient=1.0)
    assert lesson.returns[0, 2:5].tolist() == pytest.approx([0.8, 0.9, 0.0])
    assert lesson.advantages[0, 2].item() == pytest.approx(0.8 - 0.02)


def test_whitening_looks_at_the_whole_rollout():
    rollout = make_rollout([4, 2, 6])
    config = dataclasses.replace(PLAIN, whitening="unbiased")
    advantages = make_lesson(rollout, config, 0.0).advantages[rollout.mask]
    assert (advantages.mean().item(), advantages.std().item()) == (pytest.approx(0, abs=1e-6), pytest.approx(1))


def test_the_numbers_of_a_rollout():
    rollout = make_rollout([2, 3])
    numbers = describe_rollout(make_lesson(rollout, PLAIN, 1.0))
    assert numbers["kl"] == pytest.approx(0.1 * 2.5)
    assert numbers["score"] == 1.5
    assert numbers["reward"] == pytest.approx((1.0 + 2.0 - 0.5 - 0.5) / 2)
    assert (numbers["response_length"], numbers["stop_rate"]) == (2.5, 0.5)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=11),
    world_size=st.integers(1, 4),
    micro_batch=st.integers(1, 5),
    aggregation=st.sampled_from(["token_mean", "sequence_mean", "constant"]),
)
def test_every_token_counts_once_however_a_mini_batch_is_shared(lengths, world_size, micro_batch, aggregation):
    rollout = make_rollout(lengths)
    training = dataclasses.replace(PLAIN.training, batch_size=micro_batch * 12, micro_batch=micro_batch, ranks=1)
    config = dataclasses.replace(PLAIN, training=training, aggregation=aggregation, max_new_tokens=8)
    rows = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(len(lengths)))
    whole, total = torch.zeros(rollout.mask.shape), 0
    pieces = [list(micro_batches(rollout, rows, config, rank, world_size)) for rank in range(world_size)]
    for batch in (batch for share in pieces for batch in share):
        assert len(batch.rows) <= micro_batch
        assert batch.cut(rollout.mask).shape == batch.weights.shape
        for row, weights in zip(batch.rows.tolist(), batch.weights, strict=True):
            whole[row, : len(weights)] += weights
            total += bool(weights.any())
    assert total == len(lengths)
    assert torch.equal(whole > 0, rollout.mask)
    assert whole.sum().item() == pytest.approx(sum(lengths) / (8 * len(lengths)) if aggregation == "constant" else 1.0)
    assert len({len(share) for share in pieces}) == 1


@given(st.integers(1, 30), st.integers(1, 12))
def test_every_prompt_is_drawn_once_before_any_comes_again(num_prompts, per_update):
    prompts = [Prompt(str(index), "en", "toy", "", [1]) for index in range(num_prompts)]
    drawn = [prompt.id for update in range(30) for prompt in draw_prompts(prompts, update, per_update, seed=3)]
    for start in range(0, len(drawn) - num_prompts + 1, num_prompts):
        assert len(set(drawn[start : start + num_prompts])) == num_prompts


def test_epochs_of_prompts_come_in_another_order():
    prompts = [Prompt(str(index), "en", "toy", "", [1]) for index in range(20)]
    orders = [[prompt.id for prompt in draw_prompts(prompts, update, 20, seed=3)] for update in range(2)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
