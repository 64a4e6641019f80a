"""Dialogues as ids: which tokens are learned, where long ones are cut, what is refused."""

from __future__ import annotations

import pytest
import torch

from components.errors import StepError
from components.model.huggingface import load_transformer
from components.posttrain.dialogues import Instruction, write_instructions
from components.sft.data import lay_out, read_dialogues
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, END

LONG = 1000


@pytest.fixture
def tokenizer(byte_tokenizer):
    return TextTokenizer.from_folder(byte_tokenizer)


def turns(*texts):
    roles = ("user", "assistant")
    return tuple({"role": roles[index % 2], "content": text} for index, text in enumerate(texts))


def write(path, *conversations):
    write_instructions(
        path, [Instruction(str(number), "en", "test", each) for number, each in enumerate(conversations)]
    )
    return path


def test_exactly_the_assistants_words_and_turn_ends_are_learned(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", turns("hi", "你好 there", "and?", "bye"))
    [dialogue], dropped = read_dialogues(path, tokenizer, LONG)
    learned = [target for target in dialogue.targets if target != -100]
    assert tokenizer.decode(learned) == "你好 therebye"
    assert learned.count(END) == 2
    assert dialogue.num_scored == len("你好 therebye".encode()) + 2
    assert dropped == 0


def test_targets_are_the_inputs_one_later(tmp_path, tokenizer):
    [dialogue], _ = read_dialogues(write(tmp_path / "train.arrow", turns("a", "bc")), tokenizer, LONG)
    assert dialogue.inputs[0] == BOS
    shifted = dialogue.inputs[1:]
    assert all(target in (-100, token) for target, token in zip(dialogue.targets, shifted, strict=False))
    assert dialogue.targets[-1] == END


def test_a_long_dialogue_is_cut_after_the_last_reply_that_fits(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", turns("a", "bb", "c", "d" * 50))
    whole, _ = read_dialogues(path, tokenizer, LONG)
    for max_length in range(7, 64):
        [cut], _ = read_dialogues(path, tokenizer, max_length)
        assert len(cut.inputs) == (62 if max_length >= 62 else 7)
        assert cut.inputs == whole[0].inputs[: len(cut.inputs)]
        assert cut.targets[-1] == END


def test_dialogues_without_a_reply_that_fits_are_counted(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", turns("a", "b"), turns("q" * 40, "r"), turns("a", "s" * 40))
    dialogues, dropped = read_dialogues(path, tokenizer, 20)
    assert (len(dialogues), dropped) == (1, 2)


def test_no_dialogue_that_fits_is_an_error_naming_the_key(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", turns("q" * 40, "r"))
    with pytest.raises(StepError, match="None of 1 dialogues") as refused:
        read_dialogues(path, tokenizer, 20)
    assert "sft.max_length" in refused.value.fix


def test_an_unknown_role_is_an_error_naming_the_row(tmp_path, tokenizer):
    path = write(tmp_path / "train.arrow", ({"role": "robot", "content": "beep"},))
    with pytest.raises(StepError, match="robot") as refused:
        read_dialogues(path, tokenizer, LONG)
    assert "row id 0" in refused.value.where


def test_a_damaged_table_is_an_error(tmp_path, tokenizer):
    (tmp_path / "train.arrow").write_bytes(b"not arrow")
    with pytest.raises(StepError):
        read_dialogues(tmp_path / "train.arrow", tokenizer, LONG)


def test_packed_rows_cost_what_their_dialogues_cost_alone(tmp_path, tokenizer, tiny_base):
    model = load_transformer(tiny_base / "model")
    path = write(tmp_path / "train.arrow", turns("a", "bc"), turns("hello", "x"), turns("who", "me", "oh", "yes"))
    dialogues, _ = read_dialogues(path, tokenizer, LONG)

    def cost(rows, length):
        batch = lay_out(rows, length)
        return model(batch["tokens_BT"], batch["targets_BT"], segments_BT=batch["segments_BT"]).item()

    alone = sum(cost([[dialogue]], len(dialogue.inputs)) for dialogue in dialogues)
    assert cost([dialogues[:2], [], dialogues[2:]], 64) == pytest.approx(alone, rel=1e-6)


def test_a_row_of_padding_costs_nothing(tiny_base):
    batch = lay_out([[]], 16)
    model = load_transformer(tiny_base / "model")
    assert model(batch["tokens_BT"], batch["targets_BT"], segments_BT=batch["segments_BT"]).item() == 0
    assert torch.equal(batch["segments_BT"], torch.zeros(1, 16, dtype=torch.int64))
