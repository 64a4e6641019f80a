"""Preference pairs as ids: where they end, how long ones are cut, and what is refused."""

from __future__ import annotations

import pytest
import torch

from components.errors import StepError
from components.model.heads import ScalarModel
from components.model.huggingface import load_transformer
from components.posttrain.dialogues import Preference, write_preferences
from components.reward.data import lay_out, read_pairs
from components.reward.task import scores
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import ASSISTANT, BOS, END


@pytest.fixture
def tokenizer(byte_tokenizer):
    return TextTokenizer.from_folder(byte_tokenizer)


def says(*texts):
    roles = ("user", "assistant")
    return tuple({"role": roles[(index + len(texts) + 1) % 2], "content": text} for index, text in enumerate(texts))


def write(path, *rows):
    pairs = [
        Preference(str(number), "en", "test", prompt, chosen, rejected, 0.25)
        for number, (prompt, chosen, rejected) in enumerate(rows)
    ]
    write_preferences(path, pairs)
    return path


def test_a_pair_shares_its_prompt_and_ends_with_the_closing_token(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", (says("hi"), "good", "no"))
    [pair], dropped = read_pairs(path, tokenizer, 100)
    start = pair.chosen.index(ASSISTANT) + 1
    assert pair.chosen[:start] == pair.rejected[:start]
    assert pair.chosen[0] == BOS
    assert tokenizer.decode(pair.chosen[start:]) == "good"
    assert tokenizer.decode(pair.rejected[start:]) == "no"
    assert pair.chosen[-1] == pair.rejected[-1] == END
    assert (pair.margin, pair.source, dropped) == (0.25, "test", 0)


def test_a_long_pair_loses_its_oldest_messages_on_both_sides(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", (says("a" * 30, "b", "c"), "x", "yy"))
    [pair], _ = read_pairs(path, tokenizer, 20)
    assert tokenizer.decode(pair.chosen) == "bcx"
    assert tokenizer.decode(pair.rejected) == "bcyy"
    assert pair.chosen[0] == BOS


def test_pairs_too_long_even_so_are_counted(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", (says("a"), "x", "y"), (says("a"), "x", "y" * 40))
    pairs, dropped = read_pairs(path, tokenizer, 20)
    assert (len(pairs), dropped) == (1, 1)


def test_no_pair_that_fits_is_an_error_naming_the_key(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", (says("a"), "x" * 40, "y"))
    with pytest.raises(StepError, match="None of 1 preference pairs") as refused:
        read_pairs(path, tokenizer, 20)
    assert "reward.max_length" in refused.value.fix


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_pair_that_misses_a_side_is_an_error_naming_side_and_row(tmp_path, tokenizer, side, value):
    sides = {"chosen": "x", "rejected": "y", side: value}
    path = write(tmp_path / "train.arrow", (says("a"), sides["chosen"], sides["rejected"]))
    with pytest.raises(StepError, match=f"no {side} side") as refused:
        read_pairs(path, tokenizer, 20)
    assert "row id 0" in refused.value.where


def test_a_score_in_a_batch_is_the_score_alone_at_the_last_token(tmp_path, tokenizer, tiny_base):
    path = write(tmp_path / "train.arrow", (says("hello"), "x", "longer reply"), (says("a"), "something", "y"))
    pairs, _ = read_pairs(path, tokenizer, 60)
    model = ScalarModel.from_transformer(load_transformer(tiny_base / "model"), torch.Generator().manual_seed(3))
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    alone = torch.stack([model(torch.tensor([row]))[0, -1] for row in rows])
    together = scores(model, lay_out(pairs))
    assert alone.std() > 0
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
