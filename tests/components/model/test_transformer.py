"""The Transformer by itself: packing, positions, losses, initialisation, and every hand-written gradient."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from components.model.config import ModelConfig
from components.model.elementwise import rms_norm, swiglu
from components.model.heads import ScalarModel
from components.model.loss import cross_entropy
from components.model.positions import positions_of, rope_tables, rotate
from components.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=90, dim=48, num_layers=3, num_heads=6, num_kv_heads=2, ffn_dim=64, max_length=64)


def make(seed=0, **changes):
    return Transformer(dataclasses.replace(CONFIG, **changes), torch.Generator().manual_seed(seed))


def draw(*shape, seed=5):
    return torch.randint(0, 90, shape, generator=torch.Generator().manual_seed(seed))


def random(*shape, seed=6):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_packed_documents_have_the_logits_they_have_alone():
    model, documents = make(), [draw(1, length, seed=length) for length in (20, 7, 13)]
    packed = torch.cat(documents, dim=1)
    segments = torch.tensor([[0] * 20 + [1] * 7 + [2] * 13])
    alone = torch.cat([model(document) for document in documents], dim=1)
    assert (model(packed, segments_BT=segments) - alone).abs().max() < 1e-5
    assert (model(packed) - alone).abs().max() > 1e-3


def test_packed_documents_have_the_gradient_they_have_alone():
    model, documents = make(), [draw(1, length, seed=length) for length in (9, 16)]
    packed, segments = torch.cat(documents, dim=1), torch.tensor([[4] * 9 + [1] * 16])
    model(packed, packed.roll(1, 1), segments_BT=segments).backward()
    together = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    targets = packed.roll(1, 1)
    (model(documents[0], targets[:, :9]) + model(documents[1], targets[:, 9:])).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            together[name], parameter.grad, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_segment_number_that_comes_back_is_another_document_for_positions():
    segments = torch.tensor([[3, 3, 3, 1, 1, 3, 3], [0, 0, 0, 0, 0, 0, 0]])
    assert positions_of(segments).tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5, 6]]


def test_padding_after_a_row_changes_nothing_in_it():
    model, tokens = make(), draw(2, 12)
    padded = torch.cat([tokens, torch.zeros(2, 9, dtype=torch.long)], dim=1)
    assert (model(padded)[:, :12] - model(tokens)).abs().max() < 1e-6


def test_no_token_sees_a_later_one():
    model, tokens = make(), draw(1, 16)
    changed = tokens.clone()
    changed[0, 10] += 1
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :10], after[:, :10])
    assert (before[:, 10:] - after[:, 10:]).abs().amax(-1).min() > 0


def test_positions_can_be_given():
    model, tokens = make(), draw(1, 8)
    shifted = model(tokens, positions_BT=torch.arange(5, 13)[None])
    assert (shifted - model(tokens)).abs().max() < 1e-5
    stretched = model(tokens, positions_BT=torch.arange(0, 16, 2)[None])
    assert (stretched - model(tokens)).abs().max() > 1e-3


def test_a_sequence_beyond_max_length_is_refused():
    with pytest.raises(ValueError, match="max_length=64"):
        make()(draw(1, 65))


def test_the_last_logits_can_be_had_alone():
    model, tokens = make(), draw(2, 10)
    torch.testing.assert_close(model(tokens, num_logits=2), model(tokens)[:, -2:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("tie", [True, False])
def test_the_loss_is_the_summed_cross_entropy_of_the_scored_positions(tie):
    model, tokens, targets = make(tie_embeddings=tie), draw(3, 20), draw(3, 20, seed=9)
    targets[:, :6] = -100
    targets[2] = -100
    expected = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=-100)
    loss = model(tokens, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_ignored", [0, 3, 11])
def test_the_chunked_loss_has_the_gradients_of_the_plain_one(num_ignored):
    hidden, weight, targets = random(4, 9, 16), random(90, 16), draw(4, 9)
    targets.view(-1)[:num_ignored] = -100
    grads = []
    for plain in (True, False):
        leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        if plain:
            logits = (leaves[0] @ leaves[1].T).flatten(0, 1)
            loss = F.cross_entropy(logits, targets.flatten(), reduction="sum", ignore_index=-100)
        else:
            loss = cross_entropy(*leaves, targets)
        (loss / 7).backward()
        grads.append([leaf.grad for leaf in leaves])
    for plain, chunked in zip(*grads, strict=True):
        torch.testing.assert_close(plain, chunked, rtol=1e-5, atol=1e-6)


def test_a_loss_over_nothing_is_zero_with_zero_gradient():
    model = make()
    loss = model(draw(2, 5), torch.full((2, 5), -100))
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_a_half_precision_loss_is_added_up_in_fp32():
    hidden, weight, targets = random(8, 64, 32).bfloat16(), random(90, 32).bfloat16(), draw(8, 64)
    logits = (hidden.float() @ weight.float().T).flatten(0, 1)
    expected = F.cross_entropy(logits, targets.flatten(), reduction="sum")
    torch.testing.assert_close(cross_entropy(hidden, weight, targets), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("packed", [False, True])
def test_half_precision_comes_close_by_autocast_and_by_bf16_weights(packed):
    model, tokens = make(), draw(2, 24)
    segments = torch.tensor([[0] * 9 + [1] * 15] * 2) if packed else None
    expected = model(tokens, tokens.roll(1, 1), segments_BT=segments).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(tokens, tokens.roll(1, 1), segments_BT=segments)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-2)
    assert model.backbone.embed.weight.grad.isfinite().all()
    loss = model.bfloat16()(tokens, tokens.roll(1, 1), segments_BT=segments)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-2)


def test_the_norm_and_its_gradient_are_those_of_the_formula():
    x, weight, upstream = random(3, 5, 24, seed=1), random(24, seed=2), random(3, 5, 24, seed=3)

    def formula(x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight

    _same_gradients(lambda x, w: rms_norm(x, w, 1e-5), formula, (x, weight), upstream)
    with torch.no_grad():
        torch.testing.assert_close(rms_norm(x, weight, 1e-5), formula(x, weight), rtol=1e-5, atol=1e-6)


def test_the_gate_and_its_gradient_are_those_of_the_formula():
    x, upstream = random(3, 5, 24), random(3, 5, 12, seed=3)

    def formula(x):
        return x[..., :12] * torch.sigmoid(x[..., :12]) * x[..., 12:]

    _same_gradients(swiglu, formula, (x,), upstream)
    with torch.no_grad():
        torch.testing.assert_close(swiglu(x), formula(x), rtol=1e-5, atol=1e-6)


def test_the_rotation_and_its_gradient_are_those_of_the_formula():
    shape = dataclasses.replace(CONFIG, max_length=7)
    cos, sin = (table[:, None] for table in rope_tables(shape, torch.device("cpu")))
    x, upstream = random(2, 7, 3, 8), random(2, 7, 3, 8, seed=3)

    def formula(x):
        first, second = x[..., :4], x[..., 4:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    _same_gradients(lambda x: rotate(x, cos, sin), formula, (x,), upstream)


def _same_gradients(ours, formula, inputs, upstream):
    results = []
    for function in (ours, formula):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        out = function(*leaves)
        out.backward(upstream)
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_rotary_tables_first_made_in_inference_mode_serve_training_too():
    model = make(rope_theta=123.0)
    with torch.inference_mode():
        model(draw(1, 6))
    model(draw(1, 6), draw(1, 6)).backward()
    assert model.backbone.embed.weight.grad.abs().sum() > 0


def test_one_seed_gives_one_model():
    one, same, other = make(3).state_dict(), make(3).state_dict(), make(4).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["backbone.embed.weight"], other["backbone.embed.weight"])


@pytest.mark.parametrize("tie", [True, False])
def test_a_new_model_expects_every_token_alike(tie):
    model, tokens, targets = make(tie_embeddings=tie), draw(8, 32), draw(8, 32, seed=8)
    assert model(tokens, targets).item() / 256 == pytest.approx(math.log(90), rel=0.02)


def test_initial_weights_have_the_documented_spread():
    model = make(dim=96, ffn_dim=256, num_layers=2)
    block = model.backbone.blocks[1]
    assert model.backbone.embed.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.ffn.gate_up.weight.std().item() == pytest.approx(96**-0.5, rel=0.05)
    assert block.ffn.down.weight.std().item() == pytest.approx(256**-0.5 / 2, rel=0.05)
    assert block.attention.out.weight.std().item() == pytest.approx(96**-0.5 / 2, rel=0.05)


def test_a_scalar_model_reads_with_the_language_models_backbone():
    model, tokens = make(), draw(2, 9)
    scalar = ScalarModel.from_transformer(model, torch.Generator().manual_seed(1))
    expected = (model.hidden(tokens) @ scalar.score.weight.T).squeeze(-1)
    torch.testing.assert_close(scalar(tokens), expected, rtol=0, atol=1e-6)
    model.backbone.embed.weight.data.zero_()
    assert scalar.backbone.embed.weight.abs().sum() > 0


def test_a_scalar_head_starts_at_zero_or_small():
    zero = ScalarModel.from_transformer(make())
    assert not zero(draw(1, 4)).any()
    small = ScalarModel.from_transformer(make(dim=192), torch.Generator().manual_seed(1))
    assert small.score.weight.std().item() == pytest.approx(193**-0.5, rel=0.3)
