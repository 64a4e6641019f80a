"""Cutting matrices and joining them again; that models so cut learn the same is in `test_parity`."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.errors import StepError
from components.model.transformer import Transformer
from components.training.matrices import Cut, cut_out, cuts_of, share_matrices
from tests.components.training import small
from tests.components.training.toy import Toy


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 4), st.sampled_from([0, 1]))
def test_the_pieces_of_all_ranks_hold_every_element_once_and_each_part_is_cut_by_itself(parts, size, dim):
    parts = [part * size for part in parts]
    whole = torch.arange(sum(parts) * 3.0).view(3, -1) if dim else torch.arange(sum(parts) * 3.0).view(-1, 3)
    pieces = [cut_out(whole, Cut(dim, tuple(parts)), place, size) for place in range(size)]
    assert sorted(torch.cat([piece.flatten() for piece in pieces]).tolist()) == whole.flatten().tolist()
    for piece in pieces:
        for mine, part in zip(piece.split([n // size for n in parts], dim), whole.split(parts, dim), strict=True):
            assert mine.shape[dim] * size == part.shape[dim]
            assert set(mine.flatten().tolist()) <= set(part.flatten().tolist())


def test_what_is_not_cut_stays_whole():
    whole = torch.ones(3)
    assert cut_out(whole, None, 0, 2) is whole


@pytest.mark.parametrize("family", list(small.MODELS))
def test_heads_and_channels_are_cut_and_nothing_else(family):
    model = small.make_model(family)
    gated = family == "llama"
    expected = {"attention.qkv.weight": 0, "attention.out.weight": 1, "ffn.down.weight": 1}
    expected |= {"ffn.gate_up.weight": 0} if gated else {"ffn.up.weight": 0, "attention.qkv.bias": 0, "ffn.up.bias": 0}
    cuts = cuts_of(model)
    assert {name: cut.dim for name, cut in cuts.items()} == {
        f"backbone.blocks.{layer}.{name}": dim for layer in range(2) for name, dim in expected.items()
    }
    width = model.config.head_dim
    heads, kv_heads = model.config.num_heads, model.config.num_kv_heads
    qkv = cuts["backbone.blocks.0.attention.qkv.weight"]
    assert qkv.parts == (heads * width, kv_heads * width, kv_heads * width)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_kv_heads": 1}, "1 key-value heads do not divide over 2 ranks"),
        ({"ffn_dim": 41}, "model.ffn_dim=41"),
        ({"positions": "alibi"}, "alibi positions"),
        ({"num_experts": 2}, "experts"),
        ({"qk_norm": True}, "norm of queries and keys"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_a_model_that_cannot_be_cut_exactly_is_refused_with_the_reason(changes, reason):
    model = Transformer(dataclasses.replace(small.MODELS["llama"], **changes))
    with pytest.raises(StepError, match=reason):
        share_matrices(model, 2)


def test_other_models_are_refused():
    with pytest.raises(StepError, match="of one stack only"):
        share_matrices(Toy(), 2)
