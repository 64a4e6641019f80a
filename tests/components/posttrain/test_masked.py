"""Masked statistics and loss weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.posttrain.masked import masked_mean, masked_variance, token_weights
from components.posttrain.whiten import whiten

MASK = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0]])
VALUES = torch.tensor([[1.0, 2.0, float("nan"), 6.0], [float("inf"), 7.0, 0.0, -1.0]])


def test_mean_and_variance_look_at_unmasked_values_alone():
    assert masked_mean(VALUES, MASK) == 4.0
    assert masked_variance(VALUES, MASK) == pytest.approx((9 + 4 + 4 + 9) / 3)
    assert masked_variance(VALUES, MASK, unbiased=False) == pytest.approx((9 + 4 + 4 + 9) / 4)


def test_nothing_unmasked_gives_zeros_rather_than_nan():
    empty = torch.zeros_like(MASK)
    assert masked_mean(VALUES, empty) == 0.0
    assert whiten(VALUES, empty).tolist() == torch.zeros_like(VALUES).tolist()


def test_whitened_values_have_mean_0_and_variance_1_and_masked_ones_are_0():
    white = whiten(VALUES, MASK)
    assert masked_mean(white, MASK).item() == pytest.approx(0.0, abs=1e-6)
    assert masked_variance(white, MASK).item() == pytest.approx(1.0, abs=1e-6)
    assert white[~MASK.bool()].tolist() == [0.0] * 4


def test_biased_whitening_is_larger_by_the_documented_ratio():
    ratio = whiten(VALUES, MASK, unbiased=False)[0, 0] / whiten(VALUES, MASK)[0, 0]
    assert ratio.item() == pytest.approx((4 / 3) ** 0.5, rel=1e-6)


def test_whitening_without_shift_keeps_the_mean():
    assert masked_mean(whiten(VALUES, MASK, shift_mean=False), MASK).item() == pytest.approx(4.0, rel=1e-6)


def test_no_gradient_comes_out_of_masked_nan():
    values = VALUES.clone().requires_grad_()
    (whiten(values, MASK) ** 3).sum().backward()
    assert torch.isfinite(values.grad).all()
    assert values.grad[~MASK.bool()].tolist() == [0.0] * 4


def test_token_mean_weighs_tokens_alike_and_sequence_mean_rows_alike():
    assert token_weights(MASK)[0, 0] == token_weights(MASK)[1, 1] == 0.25
    weights = token_weights(MASK, "sequence_mean")
    assert weights.sum(1).tolist() == pytest.approx([0.5, 0.5])
    assert weights[0, 0].item() == pytest.approx(1 / 6)


def test_constant_weights_do_not_know_the_length_of_replies():
    assert token_weights(MASK, "constant", length=4).max().item() == 1 / 8
    assert token_weights(MASK[:1], "constant", length=4)[0, 0].item() == 1 / 4


def test_an_empty_row_has_no_share_in_the_sequence_mean():
    mask = torch.tensor([[1, 1], [0, 0]])
    assert token_weights(mask, "sequence_mean").sum().item() == 1.0


def test_an_unknown_aggregation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="token_mean, sequence_mean, constant"):
        token_weights(MASK, "mean")


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=9), st.integers(1, 4))
def test_a_weighted_loss_is_the_same_however_the_batch_is_cut(rows, piece):
    mask = torch.tensor(rows)
    values = torch.arange(mask.numel(), dtype=torch.float64).view(mask.shape).sin()
    for aggregation in ("token_mean", "sequence_mean"):
        weighted = values * token_weights(mask, aggregation)
        pieces = sum(weighted[start : start + piece].sum().item() for start in range(0, len(rows), piece))
        assert pieces == pytest.approx(weighted.sum().item(), abs=1e-12)
        assert token_weights(mask, aggregation).sum().item() == pytest.approx(float(mask.any()))
