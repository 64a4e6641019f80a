"""The KL controller: its rule, and that its state survives."""

import pytest

from components.posttrain.kl_control import KlController


def test_without_a_target_the_coefficient_never_moves():
    controller = KlController(0.05)
    controller.update(kl=100.0, num_episodes=64)
    assert controller.coefficient == 0.05


def test_the_coefficient_follows_the_error_and_the_error_is_bounded():
    controller = KlController(0.1, target=4.0, horizon=640.0)
    controller.update(kl=4.4, num_episodes=64)
    assert controller.coefficient == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    controller.update(kl=400.0, num_episodes=64)
    assert controller.coefficient == pytest.approx(0.101 * (1 + 0.2 * 0.1))
    controller.update(kl=-3.0, num_episodes=64)
    assert controller.coefficient == pytest.approx(0.101 * 1.02 * 0.98)


def test_a_restored_controller_goes_on_as_the_old_one():
    first = KlController(0.1, target=4.0, horizon=640.0)
    first.update(9.0, 64)
    second = KlController(0.1, target=4.0, horizon=640.0)
    second.load_state_dict(first.state_dict())
    first.update(2.0, 64)
    second.update(2.0, 64)
    assert second.coefficient == first.coefficient
