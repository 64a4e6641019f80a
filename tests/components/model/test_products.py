"""Products and linear maps by whichever library serves, and the loss above them, beside torch's in double precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from components.model import loss, products
from components.model.attention import Projection
from components.model.loss import IGNORED, cross_entropy
from components.model.native import why_not


@pytest.fixture(params=["onednn", "torch"])
def library(request, monkeypatch):
    """Either library, whatever the processor, for products of any size."""
    if request.param == "onednn" and not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(products, "_BY_ONEDNN", request.param == "onednn")
    monkeypatch.setattr(products, "_WORTHWHILE", 1)
    return request.param


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def projection(inputs, outputs, bias):
    """One with weights drawn: they come as whatever lies in memory."""
    module = Projection(inputs, outputs, bias=bias)
    for number, parameter in enumerate(module.parameters(), 1):
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))
    return module


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [((2, 7), 5, 3), ((40,), 16, 96), ((3, 4, 2), 64, 8)])
def test_a_linear_map_and_its_gradients(library, rows, inputs, outputs, bias):
    module = projection(inputs, outputs, bias)
    x, grad = drawn(*rows, inputs).requires_grad_(), drawn(*rows, outputs, seed=2)
    mapped = module(x)
    assert (type(mapped.grad_fn).__name__ == "_LinearBackward") == (library == "onednn")
    mapped.backward(grad)
    exact = [part.detach().double().requires_grad_() for part in (x, *module.parameters())]
    expected = F.linear(*exact)
    expected.backward(grad.double())
    torch.testing.assert_close(mapped.double(), expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip((x, *module.parameters()), exact, strict=True):
        assert ours.grad.is_contiguous() or ours is x
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (64, 64), (65, 130), (200, 31)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_is_laid_out_in_rows(shape, dtype):
    columns = drawn(*shape).to(dtype).t()
    rows = products.rows_of(columns)
    assert rows.is_contiguous()
    assert torch.equal(rows, columns)
    assert products.rows_of(rows) is rows


def test_what_is_no_single_precision_of_a_cpu_is_left_to_torch(library):
    x, weight = drawn(4, 8), drawn(6, 8).requires_grad_()
    assert products.linear(x.double(), weight.double()).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16


def test_the_compiler_keeps_the_library(library):
    module = projection(16, 24, False)
    x = drawn(5, 16).requires_grad_()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    compiled(x).sum().backward()
    by_compiler = x.grad.clone(), module.weight.grad.clone()
    x.grad = module.weight.grad = None
    module(x).sum().backward()
    torch.testing.assert_close((x.grad, module.weight.grad), by_compiler)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 64, 200])
@pytest.mark.parametrize("vocabulary", [2, 37, 512])
def test_the_loss_and_its_gradients(library, monkeypatch, vocabulary, rows, bias):
    monkeypatch.setattr(loss, "CHUNK_LOGITS", 64 * vocabulary)
    hidden, weight = drawn(1, rows, 16).mul(2).requires_grad_(), drawn(vocabulary, 16, seed=1).requires_grad_()
    biases = [drawn(vocabulary, seed=2).requires_grad_()] if bias else []
    targets = torch.randint(0, vocabulary, (1, rows), generator=torch.Generator().manual_seed(3))
    if rows > 1:
        targets[0, ::5] = IGNORED
    total = cross_entropy(hidden, weight, targets, *biases)
    (total / 3).backward()
    exact = [part.detach().double().requires_grad_() for part in (hidden, weight, *biases)]
    logits = F.linear(exact[0], exact[1], *exact[2:])
    expected = F.cross_entropy(logits[0], targets[0], reduction="sum", ignore_index=IGNORED)
    (expected / 3).backward()
    torch.testing.assert_close(total.double(), expected, rtol=2e-6, atol=1e-5)
    for ours, theirs in zip((hidden, weight, *biases), exact, strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(cross_entropy(hidden, weight, targets, *biases), total.detach())


def test_a_target_outside_the_vocabulary_is_an_error():
    for target in (-1, 9):
        with pytest.raises(IndexError):
            cross_entropy(drawn(1, 2, 4), drawn(9, 4), torch.tensor([[0, target]]))


@pytest.mark.skipif(bool(why_not()), reason="torch's loss serves here")
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_a_number_reaches_the_loss(poison):
    hidden = drawn(1, 3, 16)
    hidden[0, 1, 0] = poison
    assert cross_entropy(hidden, drawn(30, 16), torch.zeros(1, 3, dtype=torch.long)).isnan()


def test_far_logits_neither_overflow_nor_vanish():
    hidden, weight = drawn(1, 5, 16) * 100, drawn(40, 16) * 10
    targets = torch.arange(5)[None]
    exact = F.cross_entropy(hidden[0].double() @ weight.double().t(), targets[0], reduction="sum")
    torch.testing.assert_close(cross_entropy(hidden, weight, targets).double(), exact, rtol=1e-5, atol=1e-3)
