"""Models that are unlike a llama (experts, a bert, encoder-decoders) under ZeRO-3, with recomputed blocks."""

from __future__ import annotations

from functools import partial

import pytest

from components.context import local_context
from components.training.config import TrainingConfig
from tests.components.model import sharded

# A softmax does not change when a number is added to all its scores: the gradient of a key's bias is nothing but
# rounding, which the optimizer's second moment blows up.
ROUNDING = ("qkv.bias", "key_value.bias")
CONFIG = TrainingConfig(engine="plain", batch_size=4, micro_batch=4, ranks=1, steps=3, warmup_steps=0, precision="fp32")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What plain torch learns on one rank, and what ZeRO-3 does on two."""
    one, two = (local_context(name, tmp_path_factory.mktemp(name)) for name in ("one", "two"))
    zero = sharded.changed(CONFIG, engine="deepspeed", zero_stage=3, ranks=2, micro_batch=2, recompute="blocks")
    return one.launch(partial(sharded.train_all, CONFIG), 1), two.launch(partial(sharded.train_all, zero), 2)


@pytest.mark.slow  # two ranks and DeepSpeed take 20 s to start
@pytest.mark.parametrize("name", sharded.MODELS)
def test_two_ranks_of_zero_3_learn_what_plain_torch_learns(results, name):
    plain, zero = (result[name] for result in results)
    assert zero["losses"] == pytest.approx(plain["losses"], rel=1e-5)
    assert plain["losses"][-1] < plain["losses"][0]
    assert zero["weights"].keys() == plain["weights"].keys()
    for weight in plain["weights"]:
        if weight.endswith(ROUNDING):
            continue
        assert zero["weights"][weight] == pytest.approx(plain["weights"][weight], abs=2e-5), weight
