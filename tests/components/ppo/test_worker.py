"""The whole PPO loop on the toy world: it learns, it repeats itself, and it survives being stopped."""

import itertools
import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from components.channel import Channel
from components.context import Rank, local_context
from components.errors import Preempted, StepError
from components.ppo.step import ppo
from components.ppo.worker import Inputs, train_rank
from components.publish import publish_json, read_json

METRICS = {
    "reward", "score", "kl", "kl_coefficient", "policy_loss", "value_loss", "clip_fraction", "entropy",
    "response_length", "stop_rate", "explained_variance", "first_ratio_error",
}  # fmt: skip


def journal(channel):
    """The metrics of every update, the last word on each winning; how often a killed run repeated is left out."""
    events = [json.loads(line) for line in (channel.folder / "journal.jsonl").read_text().splitlines()]
    rows = {}
    for event in events:
        if event["kind"] == "metrics":
            rows.setdefault(event["step"], {}).update(event["values"])
    for row in rows.values():
        row.pop("repeated", None)
    return rows


def sayings(channel):
    events = [json.loads(line) for line in (channel.folder / "journal.jsonl").read_text().splitlines()]
    return [event["text"] for event in events if event["kind"] == "text"]


def ticking(action, at):
    """A clock of whole seconds that does something at one of its calls; an update asks it three times."""
    calls = itertools.count()

    def clock():
        call = next(calls)
        if call == at:
            action()
        return float(call)

    return clock


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory, toy_config):
    """One run of the toy config as a step: its context's folder and its metrics."""
    folder = tmp_path_factory.mktemp("trained")
    ctx = local_context("ppo", folder, base_seed=toy_config.seed)
    inputs = {name: world / name for name in ("policy", "reward", "preferences")}
    return folder, ppo(ctx, toy_config, **inputs)


def test_the_score_rises_on_prompts_it_never_saw_and_the_kl_stays_bounded(trained):
    _, metrics = trained
    assert metrics["score"] > metrics["score_before"] + 1.5
    assert 0.5 < metrics["kl"] < 10
    assert metrics["stop_rate"] > 0.85
    assert metrics["skipped"] == 0


def test_the_sampler_draws_from_the_very_policy_that_is_trained(trained):
    folder, _ = trained
    errors = [row["first_ratio_error"] for step, row in journal(Channel(folder)).items() if step > 0]
    assert len(errors) == 24
    assert max(errors) <= 1e-5


def test_every_update_logs_the_twelve_metrics_and_starts_without_kl(trained):
    rows = journal(Channel(trained[0]))
    assert set(rows[1]) - {"clipped"} == METRICS
    assert abs(rows[1]["kl"]) < 1e-5
    assert rows[1]["kl_coefficient"] == 0.05


def test_the_artifact_holds_model_curve_and_samples_in_both_languages(trained):
    output = trained[0] / "output"
    curve = json.loads((output / "curve.json").read_text())
    samples = json.loads((output / "samples.json").read_text())
    assert [row["step"] for row in curve] == [0, 24]
    assert curve[-1]["val_score"] == trained[1]["score"]
    assert [sample["lang"] for sample in samples] == ["en"] * 4 + ["zh"] * 4
    assert sum(sample["score"] > sample["score_before"] for sample in samples) >= 6
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (output / "model").iterdir()
    }


def test_a_high_price_keeps_the_policy_at_its_reference(inputs, rank, config, vary):
    metrics = train_rank(rank, config=vary(config, kl_coefficient=20.0, steps=12), inputs=inputs, seed=1)
    assert abs(metrics["kl"]) < 0.3


def test_critic_warm_up_leaves_the_policy_as_it_is(inputs, rank, config, vary, world):
    train_rank(rank, config=vary(config, critic_warmup=3, steps=3), inputs=inputs, seed=1)
    before, after = (load_file(path / "model" / "model.safetensors") for path in (world / "policy", inputs.output))
    assert all(after[name].equal(before[name]) for name in before)


def adaptive(config, vary):
    """All the state there is: an adaptive KL price, evaluations and checkpoints in the middle."""
    return vary(config, steps=7, kl_target=0.3, kl_horizon=200.0, eval_every=3, checkpoint_every=2)


@pytest.fixture
def undisturbed(inputs, rank, config, vary, tmp_path):
    """Journal, weights and curve of a run that nobody interrupts."""
    train_rank(rank, config=adaptive(config, vary), inputs=inputs, seed=9)
    result = results(inputs, rank)
    for folder in (inputs.output, inputs.scratch, rank.channel.folder):
        shutil.rmtree(folder)
    return result


def results(inputs, rank):
    weights = load_file(inputs.output / "model" / "model.safetensors")
    return journal(rank.channel), weights, (inputs.output / "curve.json").read_bytes()


def assert_same(one, other):
    assert one[0] == other[0]
    assert all(one[1][name].equal(other[1][name]) for name in other[1])
    assert one[2] == other[2]


def test_two_runs_of_one_seed_are_identical_and_another_seed_differs(undisturbed, inputs, rank, config, vary):
    train_rank(rank, config=adaptive(config, vary), inputs=inputs, seed=9)
    assert_same(results(inputs, rank), undisturbed)
    shutil.rmtree(inputs.scratch)
    train_rank(rank, config=adaptive(config, vary), inputs=inputs, seed=10)
    assert journal(rank.channel) != undisturbed[0]


def test_a_stopped_run_saves_and_continues_with_the_bits_of_an_undisturbed_one(undisturbed, inputs, rank, config, vary):
    stop = rank.channel.folder / "stop"

    def ask_to_stop():
        stop.parent.mkdir(exist_ok=True)
        stop.touch()

    with pytest.raises(Preempted, match="update 3 of 7"):
        train_rank(rank, config=adaptive(config, vary), inputs=inputs, seed=9, clock=ticking(ask_to_stop, at=7))
    stop.unlink()
    train_rank(rank, config=adaptive(config, vary), inputs=inputs, seed=9)
    assert_same(results(inputs, rank), undisturbed)
    assert "training continues from update 3" in sayings(rank.channel)


def test_a_killed_run_continues_from_its_last_checkpoint_with_the_same_bits(undisturbed, inputs, rank, config, vary):
    def die():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_rank(rank, config=adaptive(config, vary), inputs=inputs, seed=9, clock=ticking(die, at=16))
    train_rank(rank, config=adaptive(config, vary), inputs=inputs, seed=9)
    assert_same(results(inputs, rank), undisturbed)
    assert "training continues from update 4" in sayings(rank.channel)


def test_a_judge_that_scores_all_alike_is_refused(inputs, rank, config, tmp_path):
    shutil.copytree(inputs.reward, tmp_path / "flat")
    publish_json(tmp_path / "flat" / "model" / "reward.json", {"score_mean": 0.0, "score_std": 0.0})
    flat = Inputs(inputs.policy, tmp_path / "flat", inputs.preferences, inputs.output, inputs.scratch)
    with pytest.raises(StepError, match="same score"):
        train_rank(rank, config=config, inputs=flat, seed=1)


def test_replies_that_do_not_fit_the_model_are_refused_with_a_setting_that_does(inputs, rank, config, vary):
    with pytest.raises(StepError, match="read at most 48") as caught:
        train_rank(rank, config=vary(config, max_new_tokens=40), inputs=inputs, seed=1)
    assert "ppo.max_new_tokens=24" in caught.value.fix


def test_a_judge_of_another_vocabulary_is_refused(inputs, rank, config, tmp_path):
    shutil.copytree(inputs.reward, tmp_path / "other")
    model = tmp_path / "other" / "model"
    weights = load_file(model / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:20].clone()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    publish_json(model / "config.json", {**read_json(model / "config.json"), "vocab_size": 20})
    other = Inputs(inputs.policy, tmp_path / "other", inputs.preferences, inputs.output, inputs.scratch)
    with pytest.raises(StepError, match="knows 24 tokens and the reward model 20"):
        train_rank(rank, config=config, inputs=other, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_two_ranks_of_deepspeed_see_the_same_episodes_and_learn_the_same(world, tmp_path, toy_config, vary, zero_stage):
    rows = []
    for name, fields in (
        ("plain", {}),
        ("deepspeed", {"engine": "deepspeed", "ranks": 2, "zero_stage": zero_stage, "micro_batch": 8}),
    ):
        config = vary(toy_config, steps=3, **fields)
        ctx = local_context("ppo", tmp_path / name, base_seed=config.seed)
        ppo(ctx, config, **{part: world / part for part in ("policy", "reward", "preferences")})
        rows.append(journal(Channel(tmp_path / name)))
    first, second = (row[1] for row in rows)
    assert second == pytest.approx(first, abs=1e-5)
    assert rows[1][3]["score"] == pytest.approx(rows[0][3]["score"], abs=0.05)
    assert max(row["first_ratio_error"] for step, row in rows[1].items() if step > 0) <= 1e-5


@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_continues_on_one(world, tmp_path, toy_config, vary):
    two = vary(toy_config, steps=4, engine="deepspeed", ranks=2, zero_stage=2, micro_batch=8, checkpoint_every=2)
    inputs = {part: world / part for part in ("policy", "reward", "preferences")}
    ctx = local_context("ppo", tmp_path, base_seed=two.seed)
    ppo(ctx, two, **inputs)
    expected = journal(Channel(tmp_path))[4]
    shutil.rmtree(ctx.scratch / "checkpoints" / "step-000004")
    one = vary(two, engine="plain", ranks=1)
    again = Inputs(*inputs.values(), ctx.output, ctx.scratch)
    train_rank(Rank(0, 1, 0, "cpu", Channel(tmp_path / "one")), config=one, inputs=again, seed=ctx.seed("ppo"))
    assert journal(Channel(tmp_path / "one"))[4] == pytest.approx(expected, abs=1e-3)
