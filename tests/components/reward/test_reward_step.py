"""The reward step on a tiny model: it learns an order, starts at ln 2, and hands PPO the scale of its scores."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest
import torch
from safetensors.torch import load_file

from components.context import local_context
from components.errors import ConfigError, Preempted
from components.model.heads import ScalarModel
from components.model.huggingface import load_scalar, load_transformer
from components.posttrain.dialogues import Preference, user_says, write_preferences
from components.posttrain.judge import load_judge
from components.posttrain.prompts import read_table
from components.reward.config import RewardConfig
from components.reward.data import read_pairs
from components.reward.step import reward
from components.reward.task import Preferences, right
from components.reward.worker import measure_accuracy
from components.tokenizer.load import TextTokenizer
from components.training.config import TrainingConfig
from tests.support.checkpoint_help import go_on_over_a_damaged_checkpoint, guarded, half_way, hand_over, left_out

PLAIN = TrainingConfig(
    steps=40,
    batch_size=16,
    micro_batch=8,
    lr=5e-3,
    warmup_steps=2,
    engine="plain",
    ranks=1,
    eval_every=20,
    log_every=10,
    checkpoint_every=0,
)
CONFIG = RewardConfig(training=PLAIN, max_length=48, held_out_pairs=None, scale_pairs=50)


@pytest.fixture(scope="module")
def preferences(tmp_path_factory):
    """People who like an exclamation mark; half of them ask about x, half about y."""
    folder, source = tmp_path_factory.mktemp("preferences"), random.Random(4)

    def rows(count, start):
        for number in range(start, start + count):
            words = ["".join(source.choices("abcdef", k=source.randrange(1, 9))) for _ in range(2)]
            topic = "xy"[number % 2]
            yield Preference(f"row-{number}", "en", topic, user_says(topic), f"{words[0]}!", f"{words[1]}?", 0.5)

    write_preferences(folder / "train.arrow", rows(300, 0))
    write_preferences(folder / "held_out.arrow", rows(61, 1000))
    return folder


def run(folder, base, preferences, config=CONFIG):
    context = local_context("reward", folder, config.seed)
    return reward(context, config, base=base, preferences=preferences), context


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_base, preferences):
    return run(tmp_path_factory.mktemp("reward"), tiny_base, preferences)


def test_the_order_of_held_out_pairs_is_learned(trained):
    metrics, _ = trained
    assert metrics["accuracy"] > 0.95
    assert metrics["accuracy_x"] > 0.9
    assert metrics["accuracy_y"] > 0.9
    assert metrics["loss"] < 0.3
    assert metrics["pairs"] == 300


def test_a_zero_head_starts_at_ln_2_and_one_half(trained):
    [first, *rest] = json.loads((trained[1].output / "curve.json").read_text(encoding="utf-8"))
    assert first["step"] == 0
    assert first["val_loss"] == pytest.approx(math.log(2), abs=1e-12)
    assert first["val_accuracy"] == 0.5
    assert [row["step"] for row in rest] == [20, 40]
    assert rest[-1]["val_accuracy"] == trained[0]["accuracy"]


def test_transformers_gives_the_same_scores(trained):
    from transformers import AutoModelForSequenceClassification

    folder = trained[1].output / "model"
    tokens = torch.arange(10, 40).view(2, 15)
    ours = load_scalar(folder)(tokens)[:, -1]
    other = AutoModelForSequenceClassification.from_pretrained(folder)
    assert (other(tokens).logits[:, 0] - ours).abs().max() < 1e-5


def test_the_scale_is_that_of_its_scores_on_its_training_pairs(trained, preferences):
    folder = trained[1].output / "model"
    judge, tokenizer = load_judge(folder), TextTokenizer.from_folder(folder)
    pairs, _ = read_pairs(preferences / "train.arrow", tokenizer, 48)
    with torch.no_grad():
        rows = [row for pair in pairs[:50] for row in (pair.chosen, pair.rejected)]
        values = torch.stack([judge.model(torch.tensor([row]))[0, -1] for row in rows])
    assert judge.scale.mean == pytest.approx(values.mean().item(), abs=1e-4)
    assert judge.scale.std == pytest.approx(values.std(correction=0).item(), rel=1e-4)
    normalised = judge.scale.normalise(values)
    assert normalised.mean().abs() < 1e-3


def test_centring_holds_scores_near_zero(trained):
    scale = json.loads((trained[1].output / "model" / "reward.json").read_text(encoding="utf-8"))
    assert abs(scale["score_mean"]) < 0.5 * scale["score_std"]


def test_labels_the_wrong_way_round_teach_the_opposite(tmp_path, tiny_base, preferences, trained):
    rows = [
        Preference(f"row-{number}", "en", "x", user_says("x"), "word?" * (1 + number % 3), "word!", 0.5)
        for number in range(100)
    ]
    write_preferences(tmp_path / "flipped" / "train.arrow", rows)
    (tmp_path / "flipped" / "held_out.arrow").write_bytes((preferences / "held_out.arrow").read_bytes())
    metrics, _ = run(tmp_path, tiny_base, tmp_path / "flipped")
    assert metrics["accuracy"] < 0.2


def test_a_stopped_run_continues_to_the_same_bits(trained, tmp_path, tiny_base, preferences):
    (tmp_path / "stop").touch()
    with pytest.raises(Preempted):
        run(tmp_path, tiny_base, preferences)
    (tmp_path / "stop").unlink()
    metrics, context = run(tmp_path, tiny_base, preferences)
    whole = load_file(trained[1].output / "model" / "model.safetensors")
    resumed = load_file(context.output / "model" / "model.safetensors")
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    assert metrics["accuracy"] == trained[0]["accuracy"]


@pytest.fixture(scope="module")
def guarded_run(tmp_path_factory, tiny_base, preferences):
    """A run that saves half way and leaves batches out."""
    folder = tmp_path_factory.mktemp("guarded")
    run(folder, tiny_base, preferences, guarded(CONFIG))
    return folder


def test_a_checkpoint_is_a_folder_that_transformers_loads(guarded_run):
    from transformers import AutoModelForSequenceClassification

    tokens = torch.arange(10, 40).view(2, 15)
    theirs = AutoModelForSequenceClassification.from_pretrained(half_way(guarded_run))
    scores = load_scalar(half_way(guarded_run))(tokens)[:, -1]
    assert scores.std() > 0
    assert (theirs(tokens).logits[:, 0] - scores).abs().max() < 1e-5


def test_over_a_damaged_checkpoint_a_run_goes_on_to_the_same_bits(guarded_run, tmp_path, tiny_base, preferences):
    def start(folder):
        run(folder, tiny_base, preferences, guarded(CONFIG))

    go_on_over_a_damaged_checkpoint(start, guarded_run, tmp_path)


def test_a_batch_that_is_left_out_names_its_pairs(guarded_run, preferences):
    rows = {row["id"]: row for row in read_table(preferences / "train.arrow")}
    for line in left_out(guarded_run, rows):
        assert len(line["documents"]) == 16


@pytest.mark.slow  # two processes that import DeepSpeed
def test_one_rank_goes_on_from_two_at_zero_3(tmp_path, tiny_base, preferences):
    hand_over(lambda config, folder: run(folder, tiny_base, preferences, config), CONFIG, tmp_path)


def test_the_pairs_of_a_step_are_named_in_their_order(tiny_base, preferences):
    tokenizer = TextTokenizer.from_folder(tiny_base / "model")
    pairs, _ = read_pairs(preferences / "train.arrow", tokenizer, 48)
    rows = {row["id"]: row for row in read_table(preferences / "train.arrow")}
    task = Preferences(CONFIG, pairs, pairs[:5], seed=3)
    said = [tokenizer.decode(pair.chosen) for pair in task._train.step(7)]
    for text, name in zip(said, task.documents(7), strict=True):
        assert rows[name]["chosen"] in text


def test_a_step_costs_the_same_however_it_is_cut_up(tiny_base, preferences):
    model = ScalarModel.from_transformer(load_transformer(tiny_base / "model"), torch.Generator().manual_seed(3))
    tokenizer = TextTokenizer.from_folder(tiny_base / "model")
    pairs, _ = read_pairs(preferences / "train.arrow", tokenizer, 48)
    costs = []
    for ranks, micro in ((1, 16), (1, 2), (2, 4), (4, 1)):
        training = dataclasses.replace(PLAIN, micro_batch=micro, engine="deepspeed", ranks=ranks)
        config = dataclasses.replace(CONFIG, training=training, margin_weight=1.0)
        task = Preferences(config, pairs, pairs[:5], seed=3)
        shares = [task.micro_batches(20, rank, ranks) for rank in range(ranks)]
        assert len({len(share) for share in shares}) == 1
        batches = [batch for share in shares for batch in share]
        with torch.no_grad():
            costs.append(sum(task.loss(model, batch).item() for batch in batches))
        assert task.tokens(20) == sum(int((batch["tokens_BT"] != 0).sum()) for batch in batches)
    assert costs == pytest.approx([costs[0]] * 4, rel=1e-5)
    assert costs[0] > 16 * math.log(2)


def test_every_pair_comes_once_an_epoch(tiny_base, preferences):
    tokenizer = TextTokenizer.from_folder(tiny_base / "model")
    pairs, _ = read_pairs(preferences / "train.arrow", tokenizer, 48)
    task = Preferences(dataclasses.replace(CONFIG, training=dataclasses.replace(PLAIN, batch_size=24)), pairs, pairs, 3)
    seen = [id(pair) for step in range(25) for pair in task._train.step(step)]
    for epoch in range(2):
        assert sorted(seen[epoch * 300 : (epoch + 1) * 300]) == sorted(id(pair) for pair in pairs)
    assert seen[:300] != seen[300:]


def test_accuracy_counts_a_tie_as_half_and_names_the_largest_sources():
    gaps = torch.tensor([1.0, -2.0, 0.0, 3.0, 4.0, 5.0, 1.0, 1.0], dtype=torch.float64)
    assert right(gaps).tolist() == [1, 0, 0.5, 1, 1, 1, 1, 1]
    found = measure_accuracy(gaps, ["a", "a", "a", "b", "b", "c", "c", "d"])
    assert found["accuracy"] == pytest.approx(6.5 / 8)
    assert found["standard_error"] == pytest.approx(math.sqrt(6.5 / 8 * 1.5 / 8 / 8))
    assert found["accuracy_a"] == pytest.approx(0.5)
    assert {"accuracy_b", "accuracy_c"} <= set(found)
    assert "accuracy_d" not in found


@pytest.mark.parametrize(
    "settings", [{"head": "big"}, {"margin_weight": -1.0}, {"centring": -0.1}, {"scale_pairs": 0}, {"max_length": 2}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        RewardConfig(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 3])
def test_two_deepspeed_ranks_learn_what_one_plain_rank_learns(tmp_path, tiny_base, preferences, zero_stage):
    training = dataclasses.replace(PLAIN, steps=10, eval_every=0)
    one, first = run(tmp_path / "plain", tiny_base, preferences, dataclasses.replace(CONFIG, training=training))
    sharded = dataclasses.replace(training, engine="deepspeed", zero_stage=zero_stage, ranks=2, micro_batch=4)
    two, second = run(tmp_path / "ranks", tiny_base, preferences, dataclasses.replace(CONFIG, training=sharded))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-2)
    scales = [json.loads((each.output / "model" / "reward.json").read_text("utf-8")) for each in (first, second)]
    assert scales[1]["score_std"] == pytest.approx(scales[0]["score_std"], rel=1e-2)
