"""Which weights decay, which are Muon's, and what Muon and 8-bit AdamW do with them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim._muon import _zeropower_via_newtonschulz

from components.errors import StepError
from components.training.config import TrainingConfig
from components.training.muon import HybridMuon, Layout, Share, newton_schulz, orthogonal, owners
from components.training.optim import hidden_matrices, make_optimizer, restore_moment, saved_moment, set_lr
from components.training.partitions import Spread
from tests.components.training import small
from tests.components.training.toy import Toy

MUON = TrainingConfig(optimizer="muon")


def test_matrices_decay_and_vectors_do_not():
    model = Toy()
    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.25))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters() if p.requires_grad} == {
        "embed.weight": 0.25,
        "hidden.weight": 0.25,
        "hidden.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
    }


def test_a_frozen_weight_is_not_optimized():
    model = Toy()
    optimizer = make_optimizer(model, TrainingConfig())
    assert not any(p is model.frozen for group in optimizer.param_groups for p in group["params"])


def test_a_model_of_vectors_alone_has_one_group():
    assert len(make_optimizer(torch.nn.LayerNorm(4), TrainingConfig()).param_groups) == 1


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_the_rate_is_set_in_every_group(optimizer):
    made = make_optimizer(Toy(), TrainingConfig(optimizer=optimizer, zero_stage=0))
    set_lr(made, 0.125)
    assert {float(group["lr"]) for group in made.param_groups} == {0.125}


def test_muon_takes_the_matrices_of_the_layers_and_adamw_all_else():
    model = small.make_model("gpt2")
    optimizer = make_optimizer(model, MUON)
    taken = {id(p) for group in optimizer.param_groups if group["muon"] for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in taken}
    matrices = ("attention.qkv.weight", "attention.out.weight", "ffn.up.weight", "ffn.down.weight")
    assert names == {f"backbone.blocks.{layer}.{matrix}" for layer in range(2) for matrix in matrices}
    everything = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everything) == sorted(id(p) for p in model.parameters())


def test_fused_projections_fall_into_their_matrices():
    config = small.MODELS["llama"]
    layouts = hidden_matrices(small.make_model("llama"))
    width = config.dim // config.num_heads
    rows = {layout.rows for layout in layouts.values()}
    assert (config.num_heads * width, config.num_kv_heads * width, config.num_kv_heads * width) in rows
    assert (config.ffn_dim, config.ffn_dim) in rows


def test_muon_is_refused_for_a_model_without_numbered_layers():
    with pytest.raises(StepError, match="no matrix in a numbered layer"):
        make_optimizer(Toy(), MUON)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_newton_schulz_in_bf16_gives_the_bits_of_torch(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = _zeropower_via_newtonschulz(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    assert torch.equal(newton_schulz(matrix[None], torch.bfloat16)[0], expected)


@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 99))
def test_newton_schulz_brings_singular_values_near_one_and_keeps_the_directions(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=generator))[0]
    rank = min(rows, columns)
    values = torch.linspace(1.0, 0.2, rank)
    matrix = left[:, :rank] @ torch.diag(values) @ right[:rank]
    turned = left.T @ newton_schulz(matrix[None], torch.float32)[0] @ right.T
    diagonal = torch.diagonal(turned)
    assert ((diagonal > 0.6) & (diagonal < 1.3)).all()
    off = turned.clone()
    off[range(rank), range(rank)] = 0
    assert off.abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(24, 40), (48, 16)])
def test_a_step_is_that_of_torch_but_for_the_precision_of_newton_schulz(shape):
    generator = torch.Generator().manual_seed(1)
    start, gradients = torch.randn(shape, generator=generator), torch.randn(3, *shape, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    options = {"lr": 0.02, "momentum": 0.9}
    groups = [{"params": [ours], "weight_decay": 0.1, "muon": True}]
    layouts = {ours: Layout(shape, shape[:1])}
    mine = HybridMuon(groups, layouts, **options, lr_ratio=1.0, betas=(0.9, 0.95), eps=1e-8)
    torchs = torch.optim.Muon([theirs], weight_decay=0.1, adjust_lr_fn="match_rms_adamw", **options)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        torchs.step()
    assert (ours - theirs).norm() < 0.01 * (theirs - start).norm()


def test_each_matrix_of_a_parameter_is_orthogonalised_alone_and_scaled_to_adamws_size():
    update = torch.randn(3, 20, 8, generator=torch.Generator().manual_seed(1))  # three experts
    done = orthogonal(update, Layout((3, 20, 8), (8, 4, 8)))
    assert done.shape == update.shape
    for expert in range(3):
        for start, end in ((0, 8), (8, 12), (12, 20)):
            alone = newton_schulz(update[expert, start:end][None], torch.float32)[0] * 0.2 * math.sqrt(8)
            assert torch.allclose(done[expert, start:end], alone, atol=1e-6)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12), st.integers(1, 5))
def test_every_matrix_has_one_owner_and_the_load_is_spread(shapes, ranks):
    shares = [Share(Layout(shape, (shape[0],)), Spread((0,) * ranks, (0,) * ranks, (0,) * ranks)) for shape in shapes]
    owned = owners(shares, ranks)
    assert sorted(index for indices in owned for index in indices) == list(range(len(shapes)))
    costs = [math.prod(shape) * min(shape) for shape in shapes]
    loads = [sum(costs[index] for index in indices) for indices in owned]
    assert max(loads) - min(loads) <= max(costs)


def test_moments_of_one_byte_survive_a_checkpoint_to_the_bit_and_go_into_an_adamw():
    config = TrainingConfig(optimizer="adamw8bit", zero_stage=0, lr=1e-2)
    weight = torch.nn.Linear(64, 128, bias=False)
    gradients = torch.randn(4, 128, 64, generator=torch.Generator().manual_seed(1))
    optimizer = make_optimizer(weight, config)
    for gradient in gradients:
        weight.weight.grad = gradient
        optimizer.step()
    moments = optimizer.state[weight.weight]
    for name in ("exp_avg", "exp_avg_sq"):
        saved = saved_moment(name, moments[name])
        assert saved[name].dtype == torch.uint8
        assert saved[f"{name}_scale"].numel() == 64 * 128 // 256
        fresh = make_optimizer(weight, config).start(weight.weight)[name]
        restore_moment(fresh, name, saved)
        assert torch.equal(fresh.codes, moments[name].codes)
        assert torch.equal(fresh.dequantize(), moments[name].dequantize())
        number = torch.empty(128, 64)
        restore_moment(number, name, saved)
        assert torch.equal(number, moments[name].dequantize())


def test_moments_of_one_byte_train_as_adamw_does_to_within_their_rounding():
    generator = torch.Generator().manual_seed(1)
    target, start = torch.randn(64, 64, generator=generator), torch.randn(64, 64, generator=generator)
    ends = {}
    for name in ("adamw", "adamw8bit"):
        weight = torch.nn.Linear(64, 64, bias=False)
        weight.weight.data.copy_(start)
        optimizer = make_optimizer(weight, dataclasses.replace(small.CONFIG, optimizer=name, weight_decay=0.0, lr=0.02))
        for _ in range(30):
            weight.weight.grad = weight.weight.detach() - target
            optimizer.step()
        ends[name] = weight.weight.detach()
    assert (ends["adamw8bit"] - ends["adamw"]).norm() < 0.1 * (ends["adamw"] - start).norm()
    assert not torch.equal(ends["adamw8bit"], ends["adamw"])
