"""fp16's loss scale, what a device is asked for in vain, and recomputed blocks."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.errors import MachineError, StepError
from components.training import precision
from components.training.blocks import prepare_blocks
from components.training.checks import check_engine
from components.training.precision import FIRST_SCALE, LossScale, compute_dtype, loss_scale_of
from tests.components.training import small
from tests.components.training.toy import Toy

FP16 = dataclasses.replace(small.CONFIG, precision="fp16")


@given(st.lists(st.booleans(), max_size=40))
def test_the_scale_moves_as_that_of_torch(finite):
    ours = LossScale(1024.0, dynamic=True)
    theirs = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "GROWTH_STEPS", 3)
        patch.setattr(precision, "SMALLEST_SCALE", 0.0)
        for one in finite:
            weight.grad = torch.ones(1) if one else torch.full((1,), math.inf)
            theirs.scale(torch.ones(()))  # it makes its scale at the first use
            theirs.step(optimizer)
            theirs.update()
            ours.stepped() if one else ours.overflowed()
            assert ours.value == theirs.get_scale()


def test_a_step_that_overflows_is_skipped_and_halves_the_scale(rank):
    engine = small.make_small("llama", FP16, rank)
    before = engine.full_weights()
    engine.backward(engine.module(small.tokens_of(0)[:, :-1], small.tokens_of(0)[:, 1:]) * 1e6)
    report = engine.step(1e-2)
    assert (report.skipped, report.rescaled, math.isfinite(report.grad_norm)) == (True, True, False)
    assert all(torch.equal(weight, before[name]) for name, weight in engine.full_weights().items())
    assert engine.optimizer_state()["loss_scale"].tolist() == [FIRST_SCALE / 2, 0]


def test_at_the_smallest_scale_a_skip_is_a_skip():
    scale = LossScale(2.0, dynamic=True)
    assert [scale.overflowed(), scale.overflowed()] == [True, False]
    assert scale.value == 1.0


def test_a_step_that_is_not_accepted_leaves_the_scale_alone(rank):
    engine = small.make_small("llama", FP16, rank)
    small.train_small(engine, FP16, range(2))
    engine.backward(engine.module(small.tokens_of(0)[:, :-1], small.tokens_of(0)[:, 1:]) / 96)
    report = engine.step(1e-2, lambda norm: False)
    assert (report.skipped, report.rescaled, math.isfinite(report.grad_norm)) == (True, False, True)
    assert engine.optimizer_state()["loss_scale"].tolist() == [FIRST_SCALE, 2]


def test_gradient_norm_and_clipping_do_not_see_the_scale(rank):
    norms = []
    for config in (small.CONFIG, FP16):
        engine = small.make_small("llama", config, rank)
        engine.backward(engine.module(small.tokens_of(0)[:, :-1], small.tokens_of(0)[:, 1:]) / 96)
        norms.append(engine.step(1e-2).grad_norm)
    assert norms[1] == pytest.approx(norms[0], rel=5e-3)


def test_the_scale_goes_on_from_a_checkpoint_and_is_new_after_another_precision(rank):
    engine = small.make_small("llama", FP16, rank)
    small.train_small(engine, FP16, range(3))
    again, plain = small.make_small("llama", FP16, rank), small.make_small("llama", small.CONFIG, rank)
    again.load_optimizer_state(engine.optimizer_state())
    assert again.optimizer_state()["loss_scale"].tolist() == [FIRST_SCALE, 3]
    plain.load_optimizer_state(engine.optimizer_state())
    assert "loss_scale" not in plain.optimizer_state()
    again.load_optimizer_state(plain.optimizer_state())
    assert again.optimizer_state()["loss_scale"].tolist() == [FIRST_SCALE, 3]


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "adamw8bit"])
def test_half_precision_follows_the_fp32_curve(rank, name, optimizer):
    config = dataclasses.replace(small.CONFIG, optimizer=optimizer)
    expected = small.train_small(small.make_small("llama", config, rank), config)
    half = dataclasses.replace(config, precision=name)
    losses = small.train_small(small.make_small("llama", half, rank), half)
    assert losses == pytest.approx(expected, rel=5e-3)
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_only_fp16_has_a_scale():
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    assert [loss_scale_of(dtype).dynamic for dtype in dtypes] == [False, False, True]


def test_a_gpu_without_bf16_is_told_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    with pytest.raises(MachineError, match="Tesla V100 does not compute in bf16"):
        compute_dtype(small.CONFIG.__class__(precision="auto"), torch.device("cuda"))


def test_fp16_under_zero_on_a_cpu_is_refused():
    config = dataclasses.replace(FP16, engine="deepspeed", zero_stage=2)
    with pytest.raises(MachineError, match="fp16 on a CPU"):
        compute_dtype(config, torch.device("cpu"))


@pytest.mark.parametrize("family", list(small.MODELS))
def test_recomputed_blocks_give_the_same_bits(rank, family):
    ends = []
    for recompute in ("none", "blocks"):
        config = dataclasses.replace(small.CONFIG, recompute=recompute)
        engine = small.make_small(family, config, rank)
        ends.append((small.train_small(engine, config), small.flat(engine.full_weights())))
    assert ends[0] == ends[1]


def test_recomputing_keeps_less_of_the_forward_pass(rank):
    kept = []
    for recompute in ("none", "blocks"):
        engine = small.make_small("llama", dataclasses.replace(small.CONFIG, recompute=recompute), rank)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            engine.module(small.tokens_of(0)[:, :-1], small.tokens_of(0)[:, 1:])
        kept.append(sum(sizes))
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.parametrize("changes", [{"recompute": "blocks"}, {"compile": True}])
def test_a_model_without_blocks_is_refused(changes):
    with pytest.raises(StepError, match="no blocks"):
        prepare_blocks(Toy(), dataclasses.replace(small.CONFIG, **changes))


@pytest.mark.parametrize(
    ("changes", "length", "error"),
    [
        ({"precision": "fp16", "zero_stage": 1}, 12, MachineError),
        ({"ranks": 4, "tensor_parallel": 4}, 12, StepError),
        ({"ranks": 4, "sequence_parallel": 4}, 12, StepError),
        ({"ranks": 2, "sequence_parallel": 2}, 13, StepError),
    ],
)
def test_what_an_engine_could_not_begin_is_known_before_it_is_made(changes, length, error):
    config = dataclasses.replace(small.CONFIG, engine="deepspeed", micro_batch=1, zero_stage=1)
    check_engine(small.MODELS["llama"], config, length, "cpu")
    with pytest.raises(error):
        check_engine(small.MODELS["llama"], dataclasses.replace(config, **changes), length, "cpu")
