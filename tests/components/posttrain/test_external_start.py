"""Post-training from published weights of types that are not ours: dialogues, a reward model, PPO, and back."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from components.channel import Channel
from components.context import Rank, local_context
from components.model.external import ExternalModel
from components.model.huggingface import copy_tokenizer
from components.model.language import load_language_model
from components.posttrain.dialogues import (
    Instruction,
    Preference,
    Prompt,
    user_says,
    write_instructions,
    write_preferences,
    write_prompts,
)
from components.posttrain.judge import load_judge
from components.ppo.config import PpoConfig
from components.ppo.worker import Inputs, train_rank
from components.reward.config import RewardConfig
from components.reward.step import reward
from components.sft.config import SftConfig
from components.sft.step import sft
from components.training.config import TrainingConfig

TRAINING = TrainingConfig(
    steps=3,
    batch_size=4,
    micro_batch=2,
    lr=3e-3,
    warmup_steps=0,
    weight_decay=0.0,
    engine="plain",
    ranks=1,
    eval_every=0,
    log_every=1,
    checkpoint_every=2,
)
TYPES = {
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "gpt_neox": {"intermediate_size": 48, "tie_word_embeddings": False},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
}


@pytest.fixture(scope="module", params=TYPES)
def published(request, tmp_path_factory, byte_tokenizer):
    """An artifact whose `model` folder holds a random model that transformers wrote, over bytes."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    size = {"vocab_size": 263, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(request.param, **size, max_position_embeddings=96, **TYPES[request.param])
    artifact = tmp_path_factory.mktemp(request.param)
    AutoModelForCausalLM.from_config(config).save_pretrained(artifact / "model")
    copy_tokenizer(byte_tokenizer, artifact / "model", 263)
    return artifact


@pytest.fixture(scope="module")
def tuned(published, tmp_path_factory):
    """Three steps of supervised fine-tuning on packed dialogues."""
    folder = tmp_path_factory.mktemp("instructions")
    rows = [
        Instruction(
            f"row-{number}",
            "en",
            "echo",
            ({"role": "user", "content": "ab"}, {"role": "assistant", "content": "AB" * (1 + number % 4)}),
        )
        for number in range(24)
    ]
    write_instructions(folder / "train.arrow", rows)
    write_instructions(folder / "held_out.arrow", rows[:6])
    context = local_context("sft", tmp_path_factory.mktemp("sft"), 17)
    config = SftConfig(training=TRAINING, max_length=64, held_out_examples=None)
    return sft(context, config, base=published, instructions=folder), context.output


def test_dialogues_are_learned_and_transformers_reads_the_result(tuned, published):
    from transformers import AutoModelForCausalLM

    metrics, output = tuned
    assert metrics["val_loss"] < metrics["base_val_loss"] - 0.1
    model = load_language_model(output / "model").eval()
    assert isinstance(model, ExternalModel)
    before, after = (AutoModelForCausalLM.from_pretrained(path / "model") for path in (published, output))
    tokens = torch.arange(10, 40)[None]
    assert type(before) is type(after)
    assert (after(tokens).logits - model(tokens)).abs().max() < 1e-5
    assert (after(tokens).logits - before(tokens).logits).abs().max() > 1e-2


def test_a_reward_model_and_ppo_stand_on_it(tuned, tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    _, policy = tuned
    pairs = [Preference(f"row-{n}", "en", "x", user_says("x"), "yes" * (1 + n % 3), "no", 0.5) for n in range(24)]
    write_preferences(tmp_path / "preferences" / "train.arrow", pairs)
    write_preferences(tmp_path / "preferences" / "held_out.arrow", pairs[:6])
    context = local_context("reward", tmp_path / "reward", 17)
    config = RewardConfig(training=TRAINING, max_length=48, held_out_pairs=None, scale_pairs=8)
    reward(context, config, base=policy, preferences=tmp_path / "preferences")
    judge = load_judge(context.output / "model")
    tokens = torch.arange(10, 30)[None]
    classifier = AutoModelForSequenceClassification.from_pretrained(context.output / "model")
    assert (classifier(tokens).logits[0, 0] - judge.model(tokens)[0, -1]).abs() < 1e-5
    assert judge.model(tokens).std() > 0

    asked = [Prompt(f"row-{n}", "en", "x", user_says("ab" * (1 + n % 3))) for n in range(8)]
    for name in ("train", "held_out"):
        write_prompts(tmp_path / "prompts" / f"prompts_{name}.arrow", asked)
    settings = PpoConfig(
        training=dataclasses.replace(TRAINING, steps=1, batch_size=4, micro_batch=4),
        mini_batches=1,
        epochs=1,
        max_prompt_tokens=16,
        max_new_tokens=6,
        min_reply_tokens=0,
        eval_prompts=4,
    )
    inputs = Inputs(policy, context.output, tmp_path / "prompts", tmp_path / "output", tmp_path / "scratch")
    summary = train_rank(Rank(0, 1, 0, "cpu", Channel(tmp_path)), config=settings, inputs=inputs, seed=3)
    assert summary["updates"] == 1
    moved = AutoModelForCausalLM.from_pretrained(tmp_path / "output" / "model")
    start = AutoModelForCausalLM.from_pretrained(policy / "model")
    assert (moved(tokens).logits - start(tokens).logits).abs().max() > 0
