"""Settings of PPO that cannot work are refused with one that does."""

import pytest

from components.errors import ConfigError
from components.ppo.config import PpoConfig


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("kl_estimator", "k4", "ppo.kl_estimator=k1"),
        ("whitening", "yes", "ppo.whitening=unbiased"),
        ("mini_batches", 0, "ppo.mini_batches=1"),
        ("mini_batches", 7, "ppo.mini_batches=1"),
        ("lam", 1.5, "ppo.lam=0.95"),
        ("kl_target", 0.0, "ppo.kl_target="),
        ("dual_clip", 1.0, "ppo.dual_clip=2"),
        ("temperature", 0.0, "ppo.temperature="),
        ("min_reply_tokens", 41, "ppo.min_reply_tokens=0"),
    ],
)
def test_an_impossible_setting_is_refused_by_name_with_a_fix(field, value, fix):
    with pytest.raises(ConfigError) as caught:
        PpoConfig(**{field: value})
    assert caught.value.where == f"ppo.{field}"
    assert fix in caught.value.fix


def test_the_default_fix_of_a_setting_is_itself_accepted():
    assert PpoConfig(dual_clip=2, kl_target=1, temperature=1.0, mini_batches=1).dual_clip == 2
