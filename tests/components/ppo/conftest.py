"""A world small enough to align in seconds: 24 tokens, a two-layer policy, a judge that likes vowels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models

from components.channel import Channel
from components.context import Rank
from components.model.config import ModelConfig
from components.model.heads import ScalarModel
from components.model.huggingface import save_model
from components.model.transformer import Transformer
from components.posttrain.replies import last_values
from components.ppo.config import PpoConfig
from components.ppo.worker import Inputs
from components.publish import publish_json
from components.tokenizer.special import ASSISTANT, BOS, END, SPECIAL_TOKENS, USER
from components.training.config import TrainingConfig

LETTERS = "aeioubcdfghjklmnp"
VOWELS = range(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + 5)
SHAPE = ModelConfig(vocab_size=24, dim=64, num_layers=2, num_heads=2, num_kv_heads=1, ffn_dim=128, max_length=48)
CONFIG = PpoConfig(
    training=TrainingConfig(
        steps=24,
        batch_size=32,
        micro_batch=16,
        lr=1e-3,
        warmup_steps=2,
        schedule="constant",
        weight_decay=0.0,
        engine="plain",
        ranks=1,
        eval_every=0,
        log_every=1,
        checkpoint_every=0,
    ),
    critic_lr=2e-3,
    mini_batches=2,
    epochs=2,
    max_prompt_tokens=12,
    max_new_tokens=10,
    missing_eos_penalty=0.5,
    min_reply_tokens=0,
    kl_coefficient=0.05,
    eval_prompts=32,
)


def write_tokenizer(folder: Path) -> None:
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *LETTERS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def draw_dialogues(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random letters said to and by the assistant: tokens, mask of the reply, share of vowels in it."""
    letters = torch.randint(len(SPECIAL_TOKENS), 24, (count, 14), generator=generator)
    likes_vowels = torch.rand(count, 1, generator=generator) < torch.rand(count, 14, generator=generator)
    vowels = torch.randint(VOWELS.start, VOWELS.stop, (count, 14), generator=generator)
    letters = torch.where(likes_vowels, vowels, letters)
    rows, masks = torch.zeros(count, 20, dtype=torch.long), torch.zeros(count, 19, dtype=torch.bool)
    shares = torch.zeros(count)
    lengths = torch.randint(1, 11, (count,), generator=generator).tolist()
    for row, length in enumerate(lengths):
        reply = letters[row, 4 : 4 + length].tolist()
        ids = [BOS, USER, *letters[row, :4].tolist(), END, ASSISTANT, *reply, END]
        rows[row, : len(ids)] = torch.tensor(ids)
        masks[row, 7 : len(ids) - 1] = True
        shares[row] = sum(token in VOWELS for token in reply) / length
    return rows, masks, shares


def train_judge(folder: Path) -> None:
    """A scalar model fitted to the share of vowels."""
    generator = torch.Generator().manual_seed(1)
    model = ScalarModel(SHAPE, generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(150):
        rows, masks, shares = draw_dialogues(64, generator)
        loss = ((last_values(model(rows), masks) - shares) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02, "the toy judge did not learn what it should like"
    save_model(model, folder, folder)
    publish_json(folder / "reward.json", {"score_mean": 0.3, "score_std": 0.2})


def write_prompts(path: Path, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    said = ["".join(LETTERS[i] for i in torch.randint(17, (4,), generator=generator).tolist()) for _ in range(count)]
    rows = {
        "id": [f"{seed}-{index}" for index in range(count)],
        "lang": ["en", "zh"] * (count // 2),
        "source": ["toy"] * count,
        "prompt": [[{"role": "user", "content": text}] for text in said],
    }
    table = pa.table(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with the artifacts policy, reward and preferences."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("toy")
    for name in ("policy", "reward"):
        write_tokenizer(root / name / "model")
    save_model(
        Transformer(SHAPE, torch.Generator().manual_seed(2)), root / "policy" / "model", root / "policy" / "model"
    )
    train_judge(root / "reward" / "model")
    write_prompts(root / "preferences" / "prompts_train.arrow", 100, 3)
    write_prompts(root / "preferences" / "prompts_held_out.arrow", 40, 4)
    return root


@pytest.fixture
def inputs(world, tmp_path) -> Inputs:
    """The toy world, with fresh folders for output and scratch."""
    return Inputs(world / "policy", world / "reward", world / "preferences", tmp_path / "output", tmp_path / "scratch")


@pytest.fixture(scope="session")
def toy_config() -> PpoConfig:
    return CONFIG


@pytest.fixture
def config(toy_config) -> PpoConfig:
    return toy_config


@pytest.fixture
def rank(tmp_path) -> Rank:
    return Rank(0, 1, 0, "cpu", Channel(tmp_path / "run"))


@pytest.fixture(scope="session")
def vary():
    """Makes a config that differs in some of its fields, those of the training config included."""

    def change(config: PpoConfig, **fields: object) -> PpoConfig:
        inner = {name: fields.pop(name) for name in list(fields) if hasattr(config.training, name)}
        return dataclasses.replace(config, training=dataclasses.replace(config.training, **inner), **fields)

    return change
