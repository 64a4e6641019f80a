"""Talking to a model: streaming, memory, and what does not fit."""

from __future__ import annotations

import itertools

import pytest
import torch

from components.errors import StepError
from components.model.config import ModelConfig, SamplingConfig
from components.model.generate import generate
from components.model.huggingface import load_transformer, save_model
from components.model.transformer import Transformer
from components.posttrain.chat_format import STOP_IDS, render_prompt
from components.serve.chat import Chat
from components.tokenizer.load import TextTokenizer

GREEDY = SamplingConfig(temperature=0, max_new_tokens=12)


def teller(folder, tokenizer, said, max_length=64):
    """Writes a model whose blocks do nothing and whose head names, after each byte of `said`, the next one."""
    config = ModelConfig(vocab_size=263, dim=264, num_layers=1, num_heads=1, num_kv_heads=1, ffn_dim=8,
                         max_length=max_length, tie_embeddings=False)  # fmt: skip
    model = Transformer(config, torch.Generator().manual_seed(1))
    for parameter in model.backbone.blocks.parameters():
        parameter.data.zero_()
    model.backbone.embed.weight.data = torch.eye(263, 264)
    head = torch.zeros(263, 264)
    ids = [5, *TextTokenizer.from_folder(tokenizer).encode(said), 6]
    for now, following in itertools.pairwise(ids):
        head[following, now] = 1
    assert len(set(ids)) == len(ids)
    model.lm_head.weight.data = head
    save_model(model, folder, tokenizer)
    return folder


def test_the_pieces_joined_are_what_generation_gives(tiny_base):
    folder = tiny_base / "model"
    model, tokenizer = load_transformer(folder), TextTokenizer.from_folder(folder)
    prompt = render_prompt(tokenizer, [{"role": "user", "content": "hello"}])
    [completion] = generate(model, [prompt], GREEDY, STOP_IDS, [0])
    assert "".join(Chat(folder, GREEDY).reply("hello")) == tokenizer.decode(completion.tokens) != ""


def test_a_reply_comes_in_pieces_and_ends_with_the_turn(tmp_path, byte_tokenizer):
    chat = Chat(teller(tmp_path, byte_tokenizer, "word"), GREEDY)
    assert list(chat.reply("hi")) == ["w", "o", "r", "d"]


def test_a_piece_never_ends_inside_a_character(tmp_path, byte_tokenizer):
    chat = Chat(teller(tmp_path, byte_tokenizer, "a你b"), GREEDY)
    assert list(chat.reply("hi")) == ["a", "你", "b"]


def test_a_reply_cut_inside_a_character_still_shows_its_bytes_as_one_mark(tmp_path, byte_tokenizer):
    chat = Chat(teller(tmp_path, byte_tokenizer, "a你"), SamplingConfig(temperature=0, max_new_tokens=3))
    assert "".join(chat.reply("hi")) == "a\ufffd"


def test_the_conversation_is_kept_and_can_be_forgotten(tmp_path, byte_tokenizer):
    chat = Chat(teller(tmp_path, byte_tokenizer, "yes"), GREEDY, system="be kind")
    "".join(chat.reply("one"))
    "".join(chat.reply("two"))
    assert [message["content"] for message in chat.messages] == ["be kind", "one", "yes", "two", "yes"]
    chat.forget()
    assert [message["content"] for message in chat.messages] == ["be kind"]


def test_a_reply_that_nobody_reads_to_its_end_is_kept_as_far_as_it_was_read(tmp_path, byte_tokenizer):
    chat = Chat(teller(tmp_path, byte_tokenizer, "word"), GREEDY)
    pieces = chat.reply("hi")
    next(pieces), next(pieces)
    pieces.close()
    assert chat.messages[-1] == {"role": "assistant", "content": "wo"}


def test_an_outgrown_conversation_forgets_its_oldest_turns(tmp_path, byte_tokenizer):
    chat = Chat(teller(tmp_path, byte_tokenizer, "word"), GREEDY)
    for number in range(8):
        assert "".join(chat.reply(f"message {number}")) == "word"
    prompt = TextTokenizer.from_folder(tmp_path).decode(chat._prompt("and now"))
    assert "message 7" in prompt
    assert "message 1" not in prompt


def test_a_message_too_long_for_the_model_is_refused(tmp_path, byte_tokenizer):
    chat = Chat(teller(tmp_path, byte_tokenizer, "word"), GREEDY)
    with pytest.raises(StepError, match="52") as refused:
        list(chat.reply("x" * 60))
    assert "shorter" in refused.value.fix
    assert chat.messages == []


def test_the_same_seed_gives_the_same_reply(tiny_base):
    sampling = SamplingConfig(max_new_tokens=20)
    replies = ["".join(Chat(tiny_base / "model", sampling, seed).reply("hello")) for seed in (1, 1, 2)]
    assert replies[0] == replies[1] != replies[2]


def test_a_base_model_continues_text(tiny_base):
    folder = tiny_base / "model"
    model, tokenizer = load_transformer(folder), TextTokenizer.from_folder(folder)
    [completion] = generate(model, [[1, *tokenizer.encode("once")]], GREEDY, {0, 2}, [0])
    chat = Chat(folder, GREEDY, style="text")
    assert "".join(chat.reply("once")) == tokenizer.decode(completion.tokens)
    assert "".join(chat.reply("x" * 500)) != ""


def test_an_unknown_style_is_refused(tiny_base):
    with pytest.raises(ValueError, match="poem"):
        Chat(tiny_base / "model", style="poem")
