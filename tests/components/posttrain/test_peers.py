"""Our algorithms against values that verl 0.9.1 and TRL 1.12.0 computed on ragged batches with holes, in float64.

The values are stored, so that neither library is needed. Gradients are compared too.
"""

import json
from pathlib import Path

import pytest
import torch

from components.posttrain.advantage import gae
from components.posttrain.kl import estimate_kl
from components.posttrain.kl_control import KlController
from components.posttrain.masked import token_weights
from components.posttrain.policy_loss import clipped_policy_loss
from components.posttrain.value_loss import clipped_value_loss
from components.posttrain.whiten import whiten

PEERS = json.loads((Path(__file__).parent / "peers.json").read_text())
INPUTS = {name: torch.tensor(value, dtype=torch.float64) for name, value in PEERS["inputs"].items()}
MASK = INPUTS["mask"]


def assert_equal(found, name, tolerance=1e-6):
    expected = torch.tensor(PEERS["outputs"][name], dtype=torch.float64)
    assert torch.allclose(found.double(), expected, rtol=0, atol=tolerance), (found.double() - expected).abs().max()


def weights(aggregation):
    return token_weights(MASK, aggregation, MASK.shape[1]).double()


def test_gae_with_holes_and_its_whitening_equal_verl():
    advantages, returns = gae(INPUTS["rewards"], INPUTS["values"], MASK, 0.97, 0.9, "carry")
    assert_equal(returns, "gae_returns")
    assert_equal(whiten(advantages, MASK), "gae_whitened")


def test_whitening_equals_trl():
    assert_equal(whiten(INPUTS["rewards"], MASK), "whiten_trl")
    assert_equal(whiten(INPUTS["rewards"], MASK, shift_mean=False), "whiten_no_shift_trl")


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize(("name", "dual_clip"), [("plain", None), ("dual", 3.0)])
def test_the_policy_loss_and_its_gradient_equal_verl(aggregation, name, dual_clip):
    log_probs = INPUTS["log_probs"].clone().requires_grad_()
    result = clipped_policy_loss(
        log_probs,
        INPUTS["old_log_probs"],
        INPUTS["rewards"],
        weights(aggregation),
        clip_low=0.15,
        clip_high=0.28,
        dual_clip=dual_clip,
    )
    result.loss.backward()
    assert_equal(result.loss.detach(), f"policy_{aggregation}_{name}")
    assert_equal(log_probs.grad, f"policy_{aggregation}_{name}_gradient")
    if (aggregation, name) == ("token_mean", "plain"):
        assert_equal(result.clip_fraction, "policy_clip_fraction")


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
def test_the_value_loss_and_its_gradient_equal_verl(aggregation):
    values = INPUTS["new_values"].clone().requires_grad_()
    result = clipped_value_loss(values, INPUTS["values"], INPUTS["rewards"], weights(aggregation), clip=0.2)
    result.loss.backward()
    assert_equal(result.loss.detach(), f"value_{aggregation}")
    assert_equal(values.grad, f"value_{aggregation}_gradient")
    if aggregation == "token_mean":
        assert_equal(result.clip_fraction, "value_clip_fraction")


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "abs"])
def test_kl_estimates_equal_verl(estimator):
    assert_equal(estimate_kl(INPUTS["log_probs"], INPUTS["reference"], estimator), estimator)


def test_the_adaptive_coefficient_follows_the_path_of_verl():
    controller = KlController(0.1, target=4.0, horizon=640.0)
    path = []
    for kl in (9.0, 2.0, 4.2, 3.9, -1.0):
        controller.update(kl, 64)
        path.append(controller.coefficient)
    assert path == pytest.approx(PEERS["outputs"]["kl_controller"], abs=1e-12)
