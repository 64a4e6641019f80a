"""The parts of a block: norms and their order, activations, dropout, recomputation, experts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from components.model.backbone import Backbone
from components.model.config import ACTIVATIONS, GATED, ModelConfig, resolved
from components.model.elementwise import activate
from components.model.experts import Experts, balance_loss, balanced, grouped
from components.model.transformer import build_model

SHAPE = {"vocab_size": 60, "dim": 32, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "ffn_dim": 48}
T5 = {"family": "encoder-decoder", "positions": "t5", "scale_attention": False}
PARTS = [
    {},
    {"family": "gpt2"},
    {"family": "bert", "num_token_types": 2},
    {"family": "encoder-decoder"},
    T5,
    {"num_experts": 4},
]


def make(**changes):
    return build_model(ModelConfig(**{**SHAPE, **changes}), torch.Generator().manual_seed(1))


def draw(*shape, seed=5):
    return torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(seed))


def run(model):
    """Loss and gradients, dropout drawn from one seed."""
    torch.manual_seed(3)
    sources = (draw(2, 9, seed=4),) if hasattr(model, "encoder") else ()
    model.zero_grad()
    loss = model(*sources, draw(2, 12), draw(2, 12, seed=6))
    loss.backward()
    return loss.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("changes", PARTS)
def test_recomputed_blocks_give_the_same_bits(changes):
    model = make(dropout=0.2, **changes)
    loss, gradients = run(model)
    stacks = [module for module in model.modules() if isinstance(module, Backbone)]
    calls = []
    for stack in stacks:
        stack.checkpointed = True
        stack.blocks[0].attention.out.register_forward_hook(lambda *_: calls.append(1))
    again, recomputed = run(model)
    assert again == loss
    assert all(torch.equal(gradients[name], recomputed[name]) for name in gradients)
    assert len(calls) == 2 * len(stacks)


def test_nothing_is_dropped_outside_training():
    model, tokens = make(dropout=0.5), draw(2, 12)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))
    plain = make()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(tokens), plain(tokens))


def test_a_post_norm_stack_ends_normalised_and_a_pre_norm_one_has_a_last_norm():
    hidden = make(family="bert").hidden(draw(2, 9))
    torch.testing.assert_close(hidden.mean(-1), torch.zeros(2, 9), rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden.var(-1, correction=0), torch.ones(2, 9), rtol=1e-2, atol=0)
    assert make(family="bert").backbone.norm is None
    assert make(family="gpt2").backbone.norm is not None


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "encoder-decoder"])
def test_a_family_is_a_set_of_defaults(family):
    changes = {"positions": "rope", "norm": "rmsnorm", "post_norm": False, "activation": "swiglu", "bias": False}
    shared = {"embed_norm": False, "scale_embeddings": False}
    names = make(family=family, **changes, **shared).state_dict().keys()
    blocks = {name.split(".", 1)[1] for name in names if ".blocks.0." in name and ".cross" not in name}
    assert blocks == {name.split(".", 1)[1] for name in make().state_dict() if ".blocks.0." in name}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_gradients_are_what_their_names_say(name):
    x = torch.linspace(-3, 3, 24).view(2, 12).requires_grad_()
    gate, up = x.chunk(2, -1)
    expected = {
        "swiglu": lambda: gate * torch.sigmoid(gate) * up,
        "geglu": lambda: gate / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (gate + 0.044715 * gate**3))) * up,
        "gelu": lambda: x / 2 * (1 + torch.erf(x / 2**0.5)),
        "gelu-tanh": lambda: x / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
        "relu": lambda: x.clamp(min=0),
        "relu2": lambda: x.clamp(min=0) ** 2,
        "silu": lambda: x * torch.sigmoid(x),
    }[name]()
    out, upstream = activate(name, x), torch.linspace(1, 2, expected.numel()).view(expected.shape)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(value, x, upstream)[0] for value in (out, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
    assert (name in GATED) == (expected.shape[-1] == 6)


@pytest.mark.parametrize("width", [48, 35])
@pytest.mark.parametrize("activation", ["swiglu", "relu"])
def test_experts_are_the_weighted_networks_that_each_token_chose(width, activation):
    config = ModelConfig(**{**SHAPE, "ffn_dim": width}, num_experts=5, activation=activation)
    experts = Experts(config)
    generator = torch.Generator().manual_seed(2)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    x = torch.randn(2, 7, 32, generator=generator)
    out, routing = experts(x)
    inner = experts.up if experts.gate_up is None else experts.gate_up
    probabilities = experts.router(x).softmax(-1)
    for row in range(2):
        for token in range(7):
            weights, chosen = probabilities[row, token].topk(2)
            expected = sum(
                weight / weights.sum() * experts.down[e] @ activate(activation, inner[e] @ x[row, token])
                for weight, e in zip(weights, chosen, strict=True)
            )
            torch.testing.assert_close(out[row, token], expected, rtol=1e-4, atol=1e-4)
    assert routing[0].sum().item() == pytest.approx(2)
    assert routing[1].sum().item() == pytest.approx(1)


def test_an_expert_that_nobody_chose_has_a_zero_gradient():
    experts = Experts(resolved(ModelConfig(**SHAPE, num_experts=4)))
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(2))
    experts.router.weight.data = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]).expand(4, 32).clone()
    experts(torch.ones(1, 6, 32))[0].sum().backward()
    assert experts.gate_up.grad[:2].abs().amax((1, 2)).min() > 0
    assert not experts.gate_up.grad[2:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_grouped_product_has_the_gradients_of_single_products(dtype):
    generator = torch.Generator().manual_seed(4)
    counts = torch.tensor([3.0, 0.0, 6.0, 2.0])
    x = torch.randn(11, 8, dtype=dtype, generator=generator, requires_grad=True)
    weight = torch.randn(4, 12, 8, dtype=dtype, generator=generator, requires_grad=True)
    upstream = torch.randn(11, 12, dtype=dtype, generator=generator)
    groups = zip(x.split([3, 0, 6, 2]), weight, strict=True)
    expected = torch.autograd.grad(torch.cat([rows @ matrix.T for rows, matrix in groups]), (x, weight), upstream)
    found = torch.autograd.grad(grouped(x, weight, counts), (x, weight), upstream)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_balance_loss_is_that_of_transformers_and_least_where_experts_are_used_alike():
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    generator = torch.Generator().manual_seed(3)
    logits = [torch.randn(20, 5, generator=generator) for _ in range(3)]
    routings = []
    for layer in logits:
        probabilities = layer.softmax(-1)
        counts = F.one_hot(probabilities.topk(2).indices, 5).sum((0, 1)).float()
        routings.append(torch.stack([counts / 20, probabilities.mean(0)]))
    torch.testing.assert_close(balance_loss(routings), load_balancing_loss_func(tuple(logits), 5, 2))
    even = torch.stack([torch.full((5,), 0.4), torch.full((5,), 0.2)])
    assert balance_loss([even]).item() == pytest.approx(2)
    assert balance_loss(routings) > 2


def test_the_balance_loss_counts_per_scored_token_and_only_while_training():
    model, tokens, targets = make(num_experts=4, router_loss=0.5), draw(2, 12), draw(2, 12, seed=6)
    targets[:, :4] = -100
    plain = model.eval()(tokens, targets)
    _, balance = model.backbone(tokens)
    torch.testing.assert_close(model.train()(tokens, targets) - plain, 0.5 * balance * 16, rtol=1e-4, atol=1e-4)
    assert balanced(plain, [None], 0.5, targets) is plain


def test_the_balance_loss_evens_out_a_router():
    model = make(num_experts=4, router_loss=1.0)
    with torch.no_grad():
        for block in model.backbone.blocks:
            block.ffn.router.weight *= 20
    tokens = draw(4, 16)
    before = model.backbone(tokens)[1].item()
    optimizer = torch.optim.SGD([block.ffn.router.weight for block in model.backbone.blocks], lr=0.2)
    for _ in range(15):
        optimizer.zero_grad()
        model.backbone(tokens)[1].backward()
        optimizer.step()
    assert model.backbone(tokens)[1].item() < before - 0.05
