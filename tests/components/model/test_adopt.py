"""Adopted weights give every text the ids it had, plus seven, and the logits it had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.errors import ConfigError, StepError
from components.model.adopt import SHIFT, main
from components.model.language import load_language_model
from components.posttrain.start import load_start
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS, PAD

TEXT = "the cat sat on the mat, 你好 <|endoftext|>"
TYPES = {
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 96, "tie_word_embeddings": True},
    "gpt_neox": {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 96,
        "tie_word_embeddings": False,
    },
    "phi": {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 96,
        "tie_word_embeddings": False,
    },
}
"""Ours, tied; foreign, untied; foreign with a bias on its logits."""


@pytest.fixture(params=TYPES)
def published(request, tmp_path: Path) -> Path:
    """A random model with a byte-level BPE whose end of text is token 1 of 300 and whose table has room to spare."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat " * 9], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 1)]
    )
    folder = tmp_path / "published"
    torch.manual_seed(1)
    config = AutoConfig.for_model(
        request.param, vocab_size=320, bos_token_id=1, eos_token_id=[1, 0], pad_token_id=None, **TYPES[request.param]
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_text_has_the_same_tokens_and_the_same_logits(published, tmp_path, capsys):
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert main([str(published), str(tmp_path / "adopted")]) == 0
    assert "ready" in capsys.readouterr().out
    old = Tokenizer.from_file(str(published / "tokenizer.json"))
    old.encode_special_tokens = True
    ids = old.encode(TEXT, add_special_tokens=False).ids
    tokenizer = TextTokenizer.from_folder(tmp_path / "adopted")
    assert tokenizer.encode(TEXT) == [number + SHIFT for number in ids]
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert AutoTokenizer.from_pretrained(tmp_path / "adopted").eos_token_id == EOS
    before = AutoModelForCausalLM.from_pretrained(published).eval()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "adopted").eval()
    tokens = torch.tensor([ids])
    assert type(after) is type(before)
    expected = before(tokens).logits
    assert (after(tokens + SHIFT).logits[..., SHIFT:] - expected).abs().max() < 1e-5
    ours = load_language_model(tmp_path / "adopted").eval()
    assert (ours(tokens + SHIFT)[..., SHIFT:] - expected).abs().max() < 1e-5


def test_its_own_beginning_and_end_become_ours_and_the_others_start_in_the_middle(published, tmp_path):
    main([str(published), str(tmp_path / "adopted")])
    before = load_language_model(published)
    model, _ = load_start(tmp_path / "adopted", 64, "sft.max_length")
    old, new = (_table(each) for each in (before, model))
    assert len(new) == len(old) + SHIFT
    assert torch.equal(new[BOS], old[1])
    assert torch.equal(new[EOS], old[1])
    for token in (PAD, *range(EOS + 1, SHIFT)):
        torch.testing.assert_close(new[token], old.mean(0))


def test_it_is_not_adopted_twice_nor_over_something(published, tmp_path, capsys):
    main([str(published), str(tmp_path / "adopted")])
    assert main([str(published), str(tmp_path / "adopted")]) == ConfigError.exit_code
    assert "already" in capsys.readouterr().err
    assert main([str(tmp_path / "adopted"), str(tmp_path / "again")]) == StepError.exit_code
    assert "has the token <|assistant|> already" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def _table(model):
    return (model.inner.get_input_embeddings() if hasattr(model, "inner") else model.backbone.embed).weight
