"""Our attention kernel for CPUs beside torch's: values, gradients, masks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from components.model.attention_cpu import Intervals, attend
from components.model.masks import intervals_of, segments_see
from components.model.native import why_not
from components.model.positions import rotate

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"torch's attention serves here, because {why_not()}")

SHAPES = [  # batch, tokens, query heads, key-value heads, width
    (2, 64, 4, 4, 32),
    (2, 256, 2, 2, 32),
    (3, 77, 4, 2, 64),
    (1, 130, 4, 1, 128),
    (2, 17, 2, 2, 8),
    (1, 65, 2, 1, 20),
    (1, 66, 1, 1, 256),
    (2, 2, 2, 2, 16),
]


def by_torch(
    heads: Tensor, num_heads: int, visible: Tensor, rope: tuple[Tensor, Tensor] | None, scale: float | None
) -> Tensor:
    """Torch's attention in the precision of the heads, [B, T, H, C]."""
    kv_heads = (heads.shape[2] - num_heads) // 2
    turned, values = torch.split(heads, [num_heads + kv_heads, kv_heads], dim=2)
    if rope is not None:
        turned = rotate(turned, *(part.to(heads.dtype) for part in rope))
    queries, keys = torch.split(turned, [num_heads, kv_heads], dim=2)
    parts = (part.transpose(1, 2) for part in (queries, keys, values))
    mixed = F.scaled_dot_product_attention(*parts, visible, enable_gqa=num_heads != kv_heads, scale=scale)
    return mixed.transpose(1, 2)


def segments_of(batch: int, length: int, seed: int) -> Tensor:
    """Runs of random lengths, another for every row."""
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, length, generator=draw) < 0.06).cumsum(1)


@pytest.mark.parametrize("packed", [False, True], ids=["whole rows", "packed"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both ways"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_as_exact_as_torchs(shape, causal, packed):
    batch, length, num_heads, kv_heads, width = shape
    scale = 1.3 / width**0.5
    draw = torch.Generator().manual_seed(length)
    heads = torch.randn(batch, length, num_heads + 2 * kv_heads, width, generator=draw).requires_grad_()
    grad = torch.randn(batch, length, num_heads, width, generator=draw)
    angles = torch.rand(*((batch,) if packed else ()), length, 1, width // 2, generator=draw) * 6
    rope = (angles.cos(), angles.sin())
    segments = segments_of(batch, length, 3) if packed else torch.zeros(batch, length, dtype=torch.long)

    mixed = attend(heads, num_heads, intervals_of(segments, causal), rope, scale)
    mixed.backward(grad)

    expected, other = (heads.detach().to(dtype).requires_grad_() for dtype in (torch.float64, torch.float32))
    visible = segments_see(segments, segments, causal)
    results = {}
    for copy in (expected, other):
        results[copy.dtype] = by_torch(copy, num_heads, visible, rope, scale)
        results[copy.dtype].backward(grad.to(copy.dtype))
    assert mixed.shape == results[torch.float64].shape
    for ours, torchs, exact in (
        (mixed, results[torch.float32], results[torch.float64]),
        (heads.grad, other.grad, expected.grad),
    ):
        assert (ours - exact).abs().max() < 2 * (torchs - exact).abs().max() + 1e-6


def test_any_interval_may_be_seen_also_one_that_ends_before_that_of_the_query_above():
    length, draw = 150, torch.Generator().manual_seed(6)
    ends = torch.randint(0, length, (2, 2, length), generator=draw).int().sort(0).values
    first, last = ends[0].contiguous(), ends[1] + 1
    heads = torch.randn(2, length, 6, 32, generator=draw).requires_grad_()
    mixed = attend(heads, 2, Intervals(first, last), None, None)
    mixed.square().sum().backward()
    places = torch.arange(length)
    visible = ((first[:, :, None] <= places) & (places < last[:, :, None]))[:, None]
    exact = heads.detach().double().requires_grad_()
    expected = by_torch(exact, 2, visible, None, None)
    expected.square().sum().backward()
    assert (mixed - expected).abs().max() < 5e-6
    assert (heads.grad - exact.grad).abs().max() < 5e-5


def test_without_rope_and_with_the_usual_scale():
    heads = torch.randn(2, 70, 6, 32, generator=torch.Generator().manual_seed(0))
    segments = torch.zeros(2, 70, dtype=torch.long)
    mixed = attend(heads, 2, intervals_of(segments, True), None, None)
    expected = by_torch(heads.double(), 2, segments_see(segments, segments, True), None, None)
    assert (mixed - expected).abs().max() < 3e-6


def test_scores_far_apart_neither_overflow_nor_vanish():
    heads = torch.randn(1, 100, 3, 16, generator=torch.Generator().manual_seed(1)) * 60
    heads.requires_grad_()
    segments = torch.zeros(1, 100, dtype=torch.long)
    mixed = attend(heads, 1, intervals_of(segments, True), None, None)
    mixed.sum().backward()
    expected = by_torch(heads.detach().double(), 1, segments_see(segments, segments, True), None, None)
    assert (mixed - expected).abs().max() < 2e-3  # of values around 100, after scores around 10,000
    assert heads.grad.isfinite().all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_a_number_comes_out_as_such(poison):
    heads = torch.randn(1, 40, 3, 16, generator=torch.Generator().manual_seed(1))
    heads[0, 20, 0, 3] = poison
    mixed = attend(heads, 1, intervals_of(torch.zeros(1, 40, dtype=torch.long), True), None, None)
    assert mixed[0, 20].isnan().all()
    assert mixed[0, :20].isfinite().all()


def test_a_row_does_not_depend_on_its_batch_mates_nor_on_the_number_of_threads():
    heads = torch.randn(5, 90, 12, 32, generator=torch.Generator().manual_seed(2))
    intervals = intervals_of(segments_of(5, 90, 1), True)
    together = attend(heads, 4, intervals, None, None)
    alone = attend(heads[3:4], 4, Intervals(intervals.first[3:4], intervals.last[3:4]), None, None)
    assert torch.equal(together[3:4], alone)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(attend(heads, 4, intervals, None, None), together)
    finally:
        torch.set_num_threads(threads)


def test_intervals_are_the_runs_of_each_row():
    segments = torch.tensor([[5, 5, 2, 2, 2, 5], [0, 1, 1, 1, 1, -1]])
    both_ways, causal = intervals_of(segments, False), intervals_of(segments, True)
    assert both_ways.first.tolist() == causal.first.tolist() == [[0, 0, 2, 2, 2, 5], [0, 1, 1, 1, 1, 5]]
    assert both_ways.last.tolist() == [[2, 2, 5, 5, 5, 6], [1, 5, 5, 5, 5, 6]]
    assert causal.last.tolist() == [[1, 2, 3, 4, 5, 6]] * 2


def test_it_is_an_operator_that_the_compiler_can_place():
    heads = torch.randn(2, 33, 6, 16, requires_grad=True)
    intervals = intervals_of(torch.zeros(2, 33, dtype=torch.long), True)
    inputs = (heads, 2, intervals.first, intervals.last, None, None, 0.25)
    torch.library.opcheck(torch.ops.headwater.attend.default, inputs)
