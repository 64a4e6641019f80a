"""The sft step on a tiny model: it learns, resumes with the same bits, and does not care how a batch is cut up."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
import torch
from safetensors.torch import load_file

from components.context import local_context
from components.errors import ConfigError, Preempted, StepError
from components.model.huggingface import load_transformer
from components.posttrain.dialogues import Instruction, write_instructions
from components.posttrain.prompts import read_table
from components.sft.config import SftConfig
from components.sft.data import read_dialogues
from components.sft.step import sft
from components.sft.task import Replies
from components.tokenizer.load import TextTokenizer
from components.training.config import TrainingConfig
from tests.support.checkpoint_help import go_on_over_a_damaged_checkpoint, guarded, half_way, left_out

PLAIN = TrainingConfig(
    steps=40,
    batch_size=4,
    micro_batch=4,
    lr=1e-2,
    warmup_steps=2,
    weight_decay=0.0,
    engine="plain",
    ranks=1,
    eval_every=20,
    log_every=10,
    checkpoint_every=0,
)
CONFIG = SftConfig(training=PLAIN, max_length=64, held_out_examples=None)


@pytest.fixture(scope="module")
def instructions(tmp_path_factory):
    """A parrot's dialogues: whatever is said, the answer is its letters in capitals."""
    folder, source = tmp_path_factory.mktemp("instructions"), random.Random(4)

    def rows(count, start):
        for number in range(start, start + count):
            turns = ["".join(source.choices("abc", k=source.randrange(1, 6))) for _ in range(source.choice((1, 2)))]
            messages = []
            for turn in turns:
                messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": turn.upper()}]
            yield Instruction(f"row-{number}", "en", "parrot", tuple(messages))

    write_instructions(folder / "train.arrow", rows(200, 0))
    write_instructions(folder / "held_out.arrow", rows(30, 1000))
    return folder


def run(folder, base, instructions, config=CONFIG):
    context = local_context("sft", folder, config.seed)
    return sft(context, config, base=base, instructions=instructions), context


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_base, instructions):
    return run(tmp_path_factory.mktemp("sft"), tiny_base, instructions)


def test_replies_that_were_held_out_become_likelier(trained):
    metrics, _ = trained
    assert metrics["val_loss"] < 0.5 * metrics["base_val_loss"]
    assert metrics["steps"] == 40
    assert metrics["examples"] == 200
    assert metrics["packed"] > 0.9
    assert metrics["epochs"] > 1


def test_the_artifact_holds_the_trained_model_and_its_curve(trained, tiny_base):
    from transformers import AutoModelForCausalLM

    metrics, context = trained
    curve = json.loads((context.output / "curve.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in curve] == [0, 20, 40]
    assert curve[0]["val_loss"] == metrics["base_val_loss"]
    assert curve[-1]["val_loss"] == metrics["val_loss"]
    tokens = torch.arange(10, 40)[None]
    ours = load_transformer(context.output / "model")(tokens)
    assert (AutoModelForCausalLM.from_pretrained(context.output / "model")(tokens).logits - ours).abs().max() < 1e-5
    assert not torch.equal(ours, load_transformer(tiny_base / "model")(tokens))


def test_the_base_loss_is_the_mean_cost_of_a_held_out_assistant_token(trained, tiny_base, instructions):
    model, tokenizer = load_transformer(tiny_base / "model"), TextTokenizer.from_folder(tiny_base / "model")
    dialogues, _ = read_dialogues(instructions / "held_out.arrow", tokenizer, 64)
    with torch.no_grad():
        nats = sum(model(torch.tensor([each.inputs]), torch.tensor([each.targets])).item() for each in dialogues)
    assert trained[0]["base_val_loss"] == pytest.approx(nats / sum(each.num_scored for each in dialogues), rel=1e-5)


def test_a_stopped_run_continues_to_the_same_bits(trained, tmp_path, tiny_base, instructions):
    (tmp_path / "stop").touch()
    with pytest.raises(Preempted):
        run(tmp_path, tiny_base, instructions)
    (tmp_path / "stop").unlink()
    metrics, context = run(tmp_path, tiny_base, instructions)
    whole = load_file(trained[1].output / "model" / "model.safetensors")
    resumed = load_file(context.output / "model" / "model.safetensors")
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    assert metrics["base_val_loss"] == trained[0]["base_val_loss"]


@pytest.fixture(scope="module")
def guarded_run(tmp_path_factory, tiny_base, instructions):
    """A run that saves half way and leaves batches out."""
    folder = tmp_path_factory.mktemp("guarded")
    run(folder, tiny_base, instructions, guarded(CONFIG))
    return folder


def test_a_checkpoint_is_a_folder_that_transformers_loads(guarded_run):
    from transformers import AutoModelForCausalLM

    tokens = torch.arange(10, 40)[None]
    theirs = AutoModelForCausalLM.from_pretrained(half_way(guarded_run))
    assert (theirs(tokens).logits - load_transformer(half_way(guarded_run))(tokens)).abs().max() < 1e-5


def test_over_a_damaged_checkpoint_a_run_goes_on_to_the_same_bits(guarded_run, tmp_path, tiny_base, instructions):
    def start(folder):
        run(folder, tiny_base, instructions, guarded(CONFIG))

    go_on_over_a_damaged_checkpoint(start, guarded_run, tmp_path)


def test_a_batch_that_is_left_out_names_its_dialogues(guarded_run, tiny_base, instructions):
    known = {row["id"] for row in read_table(instructions / "train.arrow")}
    [first, *_] = left_out(guarded_run, known)
    tokenizer = TextTokenizer.from_folder(tiny_base / "model")
    dialogues, _ = read_dialogues(instructions / "train.arrow", tokenizer, 64)
    task = Replies(PLAIN, 64, dialogues, dialogues[:9], seed=3)
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    read = [by_id[name].num_scored for name in task.documents(first["step"])]
    assert sum(read) == task.units(first["step"])


def test_a_step_costs_the_same_however_it_is_cut_up(tiny_base, instructions):
    model, tokenizer = load_transformer(tiny_base / "model"), TextTokenizer.from_folder(tiny_base / "model")
    dialogues, _ = read_dialogues(instructions / "train.arrow", tokenizer, 64)
    costs = []
    for ranks, micro in ((1, 8), (1, 2), (2, 4), (4, 1)):
        training = dataclasses.replace(PLAIN, batch_size=8, micro_batch=micro, engine="deepspeed", ranks=ranks)
        task = Replies(training, 64, dialogues, dialogues[:9], seed=3)
        batches = [batch for rank in range(ranks) for batch in task.micro_batches(7, rank, ranks)]
        assert len(batches) == 8 // micro
        with torch.no_grad():
            costs.append(sum(task.loss(model, batch).item() for batch in batches) / task.units(7))
        assert task.units(7) == sum(int((batch["targets_BT"] != -100).sum()) for batch in batches)
        assert task.tokens(7) == sum(int((batch["tokens_BT"] != 0).sum()) for batch in batches)
    assert costs == pytest.approx([costs[0]] * 4, rel=1e-6)


def test_rows_longer_than_the_model_reads_are_refused(tmp_path, tiny_base, instructions):
    with pytest.raises(StepError, match="at most 96 tokens") as refused:
        run(tmp_path, tiny_base, instructions, dataclasses.replace(CONFIG, max_length=97))
    assert "sft.max_length=96" in refused.value.fix


def test_a_base_without_a_tokenizer_is_refused(tmp_path, tiny_base, instructions):
    base = tmp_path / "base" / "model"
    base.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (base / name).write_bytes((tiny_base / "model" / name).read_bytes())
    with pytest.raises(StepError, match="no tokenizer"):
        run(tmp_path, tmp_path / "base", instructions)


@pytest.mark.parametrize("settings", [{"max_length": 4}, {"held_out_examples": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        SftConfig(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 3])
def test_two_deepspeed_ranks_learn_what_one_plain_rank_learns(tmp_path, tiny_base, instructions, zero_stage):
    training = dataclasses.replace(PLAIN, steps=10, eval_every=0)
    one, _ = run(tmp_path / "plain", tiny_base, instructions, dataclasses.replace(CONFIG, training=training))
    sharded = dataclasses.replace(training, engine="deepspeed", zero_stage=zero_stage, ranks=2, micro_batch=2)
    two, _ = run(tmp_path / "ranks", tiny_base, instructions, dataclasses.replace(CONFIG, training=sharded))
    assert two["base_val_loss"] == pytest.approx(one["base_val_loss"], rel=1e-5)
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
