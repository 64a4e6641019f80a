"""Our kernels for CPUs: what serves where they cannot be built, and norm and activations beside torch's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from components.model.config import ModelConfig
from components.model.elementwise import activate, rms_norm
from components.model.native import why_not
from components.model.transformer import build_model

needs_kernels = pytest.mark.skipif(bool(why_not()), reason=f"torch's kernels serve here, because {why_not()}")


def plain(name, x):
    """The activation by its formula."""
    if name == "gelu-tanh":
        return F.gelu(x, approximate="tanh")
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


@needs_kernels
@pytest.mark.parametrize("shape", [(3, 5, 32), (7, 46), (2, 2), (130, 64)], ids=str)
@pytest.mark.parametrize("name", ["swiglu", "gelu-tanh"])
def test_activations_and_their_gradients_are_those_of_the_formula(name, shape):
    draw = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=draw) * 5).requires_grad_()
    exact = x.detach().double().requires_grad_()
    ours, expected = activate(name, x), plain(name, exact)
    grad = torch.randn(ours.shape, generator=draw)
    ours.backward(grad)
    expected.backward(grad.double())
    assert type(ours.grad_fn).__name__ in ("_SwiGLUBackward", "_GELUBackward")
    torch.testing.assert_close(ours.double(), expected, rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=2e-6, atol=5e-6)
    with torch.no_grad():
        assert torch.equal(activate(name, x), ours)


@needs_kernels
@pytest.mark.parametrize("name", ["swiglu", "gelu-tanh"])
def test_far_values_saturate_and_what_is_not_a_number_stays_so(name):
    x = torch.tensor([[-300.0, -90.0, 90.0, 300.0, float("nan"), 0.0] + [1.0] * 6])
    told = activate(name, x)
    assert told[0, 4].isnan()
    torch.testing.assert_close(told[0, :4], plain(name, x)[0, :4], atol=1e-30, rtol=1e-6)


def normed(x, weight, grad):
    """The norm of a row and its gradients."""
    parts = [part.detach().requires_grad_() for part in (x, weight)]
    y = rms_norm(*parts, 1e-5)
    y.backward(grad)
    return y.detach(), *(part.grad for part in parts)


@needs_kernels
@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 7), (130, 46), (3, 257, 32), (1000, 24)], ids=str)
def test_the_norm_and_its_gradients_are_those_of_the_formula(shape):
    draw = torch.Generator().manual_seed(0)
    x, grad = torch.randn(2, *shape, generator=draw) * 3
    weight = torch.randn(shape[-1], generator=draw)
    exact = [part.double().requires_grad_() for part in (x, weight)]
    expected = exact[0] / (exact[0].square().mean(-1, keepdim=True) + 1e-5).sqrt() * exact[1]
    expected.backward(grad.double())
    ours = normed(x, weight, grad)
    torch.testing.assert_close(ours[0].double(), expected.detach(), rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(ours[1].double(), exact[0].grad, rtol=2e-6, atol=2e-5)
    torch.testing.assert_close(ours[2].double(), exact[1].grad, rtol=2e-6, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(rms_norm(x, weight, 1e-5), ours[0])


@needs_kernels
def test_the_norm_has_the_same_bits_on_any_number_of_threads():
    draw = torch.Generator().manual_seed(0)
    x, grad = torch.randn(2, 700, 40, generator=draw)
    weight, before = torch.randn(40, generator=draw), torch.get_num_threads()
    try:
        told = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            told.append(normed(x, weight, grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in told[1:] for a, b in zip(told[0], other, strict=True))


@needs_kernels
def test_the_norm_of_what_does_not_lie_in_rows():
    x = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0)).transpose(0, 1)
    grad = torch.ones(1).expand(x.shape)
    ours = normed(x, torch.ones(4), grad)
    assert all(torch.equal(a, b) for a, b in zip(ours, normed(x.contiguous(), torch.ones(4), grad), strict=True))


PROGRAM = """
import torch
from components.model.config import ModelConfig
from components.model.masks import attention_backend, explain_attention
from components.model.transformer import build_model
config = ModelConfig(vocab_size=50, dim=32, num_layers=1, num_heads=2, max_length=16)
print(explain_attention(config, torch.device("cpu"), torch.float32))
print(build_model(config, torch.Generator().manual_seed(0))(torch.arange(16)[None]).sum().item())
"""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"HEADWATER_NATIVE": "0"}, "HEADWATER_NATIVE=0 says so"),
        ({"CXX": "no-such-compiler"}, "there is no C++ compiler"),
        ({"CXX": "false"}, "does not compile here"),
        ({}, "our own kernel"),
    ],
)
def test_torchs_kernel_serves_where_ours_cannot(changes, said, tmp_path, monkeypatch):
    monkeypatch.delenv("HEADWATER_NATIVE", raising=False)
    for name, value in {"XDG_CACHE_HOME": str(tmp_path), **changes}.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    explained, total = done.stdout.splitlines()
    assert said in explained
    assert float(total) == pytest.approx(expected_total(), abs=1e-3)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    monkeypatch.delenv("HEADWATER_NATIVE", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert "our own kernel" in done.stdout


def expected_total() -> float:
    """What PROGRAM's model says here."""
    config = ModelConfig(vocab_size=50, dim=32, num_layers=1, num_heads=2, max_length=16)
    return float(build_model(config, torch.Generator().manual_seed(0))(torch.arange(16)[None]).sum().item())
