"""What several rooms' tests share: a tokenizer of single bytes, small enough to need no training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.tokenizer.special import SPECIAL_TOKENS


@pytest.fixture(scope="session")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder: our special tokens at 0 to 6, then one token per byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    folder = tmp_path_factory.mktemp("byte-tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|bos|>", "eos_token": "<|eos|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Path) -> Path:
    """An artifact whose `model` folder holds an untrained two-layer model over bytes, 96 tokens long."""
    import torch

    from components.model.config import ModelConfig
    from components.model.huggingface import save_model
    from components.model.transformer import Transformer

    config = ModelConfig(vocab_size=263, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, ffn_dim=64, max_length=96)
    artifact = tmp_path_factory.mktemp("tiny-base")
    save_model(Transformer(config, torch.Generator().manual_seed(1)), artifact / "model", byte_tokenizer)
    return artifact
