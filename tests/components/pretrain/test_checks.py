"""What is wrong with a pretraining is said before its ranks start, in one sentence each."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys

import pytest

from components.context import local_context
from components.errors import MachineError, StepError
from components.model.config import ModelConfig
from components.pretrain.checks import check_start
from components.pretrain.step import pretrain
from components.publish import publish_json, read_json

CHECKS = """
import sys
from pathlib import Path
import components.pretrain.job
from components.context import local_context
from components.pretrain.checks import check_start
from components.pretrain.config import PretrainConfig
from components.shards.verify import check_tokens
tokens, tokenizer, folder = map(Path, sys.argv[1:])
check_tokens(tokens, True, ("train", "val"))
check_start(local_context("pretrain", folder), PretrainConfig(length=32), tokens, tokenizer, None)
print(sorted({"torch", "pandas"} & set(sys.modules)))
"""


def refused(config, world, folder, kind=StepError, **inputs):
    """The error of a start, made certain that no rank was launched for it."""
    context = local_context("pretrain", folder)
    given = {"tokens": world.tokens, "tokenizer": world.tokenizer, **inputs}
    with pytest.raises(kind) as caught:
        pretrain(context, config, **given)
    assert not list(context.scratch.iterdir())
    return caught.value


def test_a_sound_start_passes(config, world, tmp_path):
    check_start(local_context("pretrain", tmp_path), config, world.tokens, world.tokenizer, None)


def test_what_is_done_before_ranks_start_imports_neither_torch_nor_pandas(world, tmp_path):
    words = [sys.executable, "-c", CHECKS, str(world.tokens), str(world.tokenizer), str(tmp_path)]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "[]\n"


def test_tokens_of_another_tokenizer_are_refused(config, world, tmp_path):
    tokens = tmp_path / "tokens"
    shutil.copytree(world.tokens, tokens)
    publish_json(tokens / "meta.json", {**read_json(tokens / "meta.json"), "tokenizer": "0" * 64})
    error = refused(config, world, tmp_path, tokens=tokens)
    assert error.what.startswith("The tokens were made with another tokenizer (000000000000) than the one given")
    assert "make the tokens again" in error.fix


def test_a_vocabulary_that_is_too_small_for_the_tokenizer_is_refused(config, world, tmp_path):
    small = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=100))
    error = refused(small, world, tmp_path)
    assert "the model has room for 100" in error.what
    assert error.fix == "set pretrain.model.vocab_size=0 to take the tokenizer's"


def test_missing_shards_are_refused(config, world, tmp_path):
    tokens = tmp_path / "tokens"
    shutil.copytree(world.tokens, tokens)
    shard = next((tokens / "train").rglob("*.arrow"))
    shard.unlink()
    assert shard.name in str(refused(config, world, tmp_path, tokens=tokens))


def test_too_few_tokens_for_one_row_are_refused(config, world, tmp_path):
    shape = dataclasses.replace(config.model, max_length=2**20)
    error = refused(dataclasses.replace(config, model=shape, length=2**20), world, tmp_path)
    assert f"do not fill one row of {2**20 + 1}" in error.what


def test_a_model_too_large_for_the_memory_is_refused_with_the_estimate(config, world, tmp_path):
    giant = ModelConfig(dim=16384, num_layers=400, num_heads=128, num_kv_heads=128, ffn_dim=65536, max_length=64)
    error = refused(dataclasses.replace(config, model=giant), world, tmp_path, kind=MachineError)
    assert "GiB for a rank of this machine, which has" in error.what
    assert "weights" in error.what
    assert error.fix
