"""What cannot be shared in slices is refused; that the rest learns the same is in `test_parity`."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.distributed as dist

from components.context import free_port
from components.errors import StepError
from components.launching import Seat, process_group
from components.model.transformer import Transformer
from components.training.sequences import SharedSequences, _check
from tests.components.training import small
from tests.components.training.toy import Toy


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_kv_heads": 1}, "1 key-value heads do not divide over 2 ranks"),
        ({"positions": "alibi"}, "alibi positions"),
        ({"positions": "t5"}, "t5 positions"),
        ({"num_experts": 2}, "experts"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_a_model_that_cannot_be_cut_exactly_is_refused_with_the_reason(changes, reason):
    model = Transformer(dataclasses.replace(small.MODELS["llama"], **changes))
    with pytest.raises(StepError, match=reason):
        _check(model, 2)


def test_other_models_are_refused():
    with pytest.raises(StepError, match="of one stack only"):
        _check(Toy(), 2)


def test_a_length_that_does_not_divide_is_refused():
    with process_group(Seat(0, 1, 0, 1, "127.0.0.1", free_port()), "cpu"):
        shared = SharedSequences(small.make_model("llama"), dist.group.WORLD)
        shared._size = 5
        with pytest.raises(StepError, match="Sequences of 12 tokens do not divide over 5 ranks"):
            shared(torch.zeros(1, 12, dtype=torch.long), torch.zeros(1, 12, dtype=torch.long))
