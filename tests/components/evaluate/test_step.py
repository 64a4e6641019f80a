"""Evaluation on models whose scores are known: uniform ones, and a policy that is its own reference."""

import json
import math
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest
import torch

from components.context import local_context
from components.documents import Document, Outcome, make_doc_id, read_documents, write_shard
from components.errors import Preempted, StepError
from components.evaluate.bits_per_byte import byte_model_scores, document_ids
from components.evaluate.byte_models import bits_per_byte, train_byte_model
from components.evaluate.config import EvaluateConfig
from components.evaluate.inputs import Inputs
from components.evaluate.measures import MEASURES, Work
from components.evaluate.step import evaluate
from components.model.config import ModelConfig
from components.model.heads import ScalarModel
from components.model.huggingface import load_transformer, save_model
from components.model.transformer import Transformer
from components.posttrain.chat_format import render
from components.posttrain.prompts import read_table
from components.publish import publish_json
from components.shards.config import TokensConfig
from components.shards.loader import TokenRows
from components.shards.step import tokens
from components.tokenizer.load import TextTokenizer
from components.tokenizer.train import train_bpe

CONFIG = EvaluateConfig(length=32, prompts=12, max_prompt_tokens=40, max_new_tokens=8, samples_per_language=2)
WORDS = ["river", "stone", "cloud", "lantern", "meadow", "copper", "harbour", "violet", "thunder", "basket"]


def text_of(index):
    return " ".join(WORDS[(index * k + k) % len(WORDS)] for k in range(1, 30)) + f" {index}. 今天天气很好。"


def write_table(path, rows):
    table = pa.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def message(role, content):
    return {"role": role, "content": content}


def write_texts(root):
    documents = [
        Document(make_doc_id("test", str(index), b""), "test", str(index), "en", "", text_of(index))
        for index in range(60)
    ]
    write_shard(root / "documents", 0, Outcome(documents[:30]))
    write_shard(root / "documents", 1, Outcome(documents[30:]))
    (root / "tokenizer").mkdir()
    train_bpe((text_of(index) for index in range(60)), 320, 2).save(str(root / "tokenizer" / "tokenizer.json"))
    ctx = local_context("tokens", root / "tokens_run")
    tokens(ctx, TokensConfig(min_val_documents=8), root / "documents", root / "tokenizer")
    (root / "tokens_run" / "output").rename(root / "tokens")


def write_dialogues(root):
    dialogues = [
        [message("user", f"{WORDS[i]}?"), message("assistant", f"{WORDS[9 - i]} {WORDS[i]}!"), message("user", "ok"),
         message("assistant", "bye")]
        for i in range(10)
    ]  # fmt: skip
    rows = [{"id": str(i), "lang": "en", "source": "test", "messages": turns} for i, turns in enumerate(dialogues)]
    write_table(root / "instructions" / "held_out.arrow", rows)
    pairs = [
        {"id": str(i), "lang": "en", "source": "ab"[i % 2], "prompt": [message("user", WORDS[i % 10])],
         "chosen": f"{WORDS[(i * 7) % 10]} {i}", "rejected": f"{WORDS[(i * 3 + 1) % 10]}", "margin": 1.0}
        for i in range(20)
    ]  # fmt: skip
    write_table(root / "preferences" / "held_out.arrow", pairs)
    prompts = [
        {"id": f"p{i:02d}", "lang": ["en", "zh"][i % 2], "source": "test", "prompt": [message("user", text)]}
        for i, text in enumerate([*WORDS, *["今天天气"] * 10])
    ]
    write_table(root / "preferences" / "prompts_held_out.arrow", prompts)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Base: uniform over all tokens. SFT and PPO: one random model. Judge: random."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("world")
    write_texts(root)
    write_dialogues(root)
    vocab_size = TextTokenizer.from_folder(root / "tokenizer").vocab_size
    shape = ModelConfig(
        vocab_size=vocab_size, dim=32, num_layers=1, num_heads=2, num_kv_heads=1, ffn_dim=64, max_length=64
    )
    uniform = Transformer(shape, torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(uniform.backbone.embed.weight)
    random = Transformer(shape, torch.Generator().manual_seed(1))
    judge = ScalarModel.from_transformer(random, torch.Generator().manual_seed(2))
    for name, model in (("base", uniform), ("sft", random), ("ppo", random), ("reward", judge)):
        save_model(model, root / name / "model", root / "tokenizer")
    publish_json(root / "reward" / "model" / "reward.json", {"score_mean": 0.1, "score_std": 0.5})
    names = ("base", "sft", "reward", "ppo", "tokens", "tokenizer", "documents", "instructions", "preferences")
    return Inputs(**{name: root / name for name in names})


def arguments(inputs):
    return {("policy" if name == "ppo" else name): path for name, path in vars(inputs).items()}


def measure(inputs, name, stage, config=CONFIG):
    return MEASURES[name](Work(name, stage, inputs, config, 3))


@pytest.fixture(scope="module")
def evaluated(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    metrics = evaluate(local_context("evaluate", folder), CONFIG, **arguments(inputs))
    return folder / "output", metrics


def test_a_uniform_model_pays_log_v_per_token(inputs):
    val_tokens = json.loads((inputs.tokens / "meta.json").read_text())["val"]
    vocab_size = TextTokenizer.from_folder(inputs.tokenizer).vocab_size
    expected = (val_tokens["tokens"] - 1) * math.log2(vocab_size) / val_tokens["bytes"]
    assert measure(inputs, "bits_per_byte", "base") == pytest.approx(expected, rel=1e-5)
    assert measure(inputs, "reply_loss", "base")["loss"] == pytest.approx(math.log(vocab_size), rel=1e-5)


def test_reply_loss_is_the_mean_over_what_the_assistant_says(inputs):

    model, text = load_transformer(inputs.sft / "model"), TextTokenizer.from_folder(inputs.tokenizer)
    nats, count = 0.0, 0
    for row in read_table(inputs.instructions / "held_out.arrow"):
        ids, mask = render(text, row["messages"])
        log_probs = model(torch.tensor([ids]))[0].log_softmax(-1)
        said = [place for place in range(1, len(ids)) if mask[place]]
        nats -= sum(log_probs[place - 1, ids[place]].item() for place in said)
        count += len(said)
    found = measure(inputs, "reply_loss", "sft")
    assert found["tokens"] == count
    assert found["loss"] == pytest.approx(nats / count, rel=1e-5)


def test_byte_models_learn_from_training_documents_alone(inputs):
    held_out, test = (set(document_ids(inputs.tokens / split)) for split in ("val", "test"))
    texts = {document.doc_id: document.text.encode() for document in read_documents(inputs.documents)}
    model = train_byte_model([text for key, text in texts.items() if key not in held_out | test], 3)
    scores = byte_model_scores(inputs.documents, inputs.tokens / "val", 3, None)
    assert len(held_out) == 8
    assert scores["order3"] == pytest.approx(bits_per_byte(model, [texts[key] for key in held_out]))
    assert scores["order3"] < scores["unigram"]
    assert scores["train_bytes"] + scores["val_bytes"] == sum(
        len(text) for key, text in texts.items() if key not in test
    )
    assert test


def test_byte_models_and_language_models_are_scored_on_the_same_documents(inputs):
    limited = byte_model_scores(inputs.documents, inputs.tokens / "val", 1, 3)

    assert limited["val_bytes"] == TokenRows.open(inputs.tokens / "val", 32, max_documents=3).num_bytes


def test_swapping_the_sides_of_every_pair_turns_the_accuracy_around(inputs, tmp_path):

    rows = read_table(inputs.preferences / "held_out.arrow")
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    write_table(tmp_path / "held_out.arrow", swapped)
    straight = measure(inputs, "reward_accuracy", "reward")
    turned = measure(replace(inputs, preferences=tmp_path), "reward_accuracy", "reward")
    assert straight["accuracy"] == pytest.approx(1 - turned["accuracy"])
    assert 0 < straight["accuracy"] < 1
    assert set(straight["sources"]) == {"a", "b"}
    accuracies = [straight["sources"][name]["accuracy"] for name in "ab"]
    assert straight["accuracy"] == pytest.approx(sum(accuracies) / 2)


def test_a_policy_that_is_its_reference_ties_with_it_everywhere(evaluated):
    _, metrics = evaluated
    assert metrics["win_rate"] == 0.5
    assert metrics["score_gain"] == metrics["ppo_score"] - metrics["sft_score"] == 0.0
    assert abs(metrics["kl_k1"]) < 1e-4 > metrics["kl_k3"]
    assert metrics["ppo_bpb"] == metrics["sft_bpb"]


def test_another_policy_has_kl_and_is_judged_pair_by_pair(inputs, tmp_path):
    other = dict(arguments(inputs), policy=inputs.base, base=inputs.sft)
    metrics = evaluate(local_context("evaluate", tmp_path), CONFIG, **other)
    assert metrics["kl_k3"] > 0.01
    assert metrics["kl_k1"] == pytest.approx(
        metrics["kl_k3"], abs=4 * (metrics["kl_k1_error"] + metrics["kl_k3_error"])
    )
    judged = json.loads((tmp_path / "scratch" / "judging.json").read_text())
    pairs = list(zip(judged["score_answers/ppo"], judged["score_answers/sft"], strict=True))
    assert metrics["win_rate"] == sum(ours > theirs for ours, theirs in pairs) / 12
    assert metrics["score_gain"] == pytest.approx(sum(ours - theirs for ours, theirs in pairs) / 12) != 0
    assert metrics["win_rate_low"] < metrics["win_rate"] < metrics["win_rate_high"]


def test_the_metrics_are_few_flat_and_finite(evaluated):
    _, metrics = evaluated
    assert len(metrics) <= 40
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"base_bpb", "unigram_bpb", "order3_bpb", "sft_reply_loss", "reward_accuracy", "win_rate"} <= set(metrics)


def test_scores_and_samples_are_written_for_both_languages(evaluated):
    output, metrics = evaluated
    scores = json.loads((output / "scores.json").read_text())
    samples = json.loads((output / "samples.json").read_text())
    assert set(scores) == {"base", "sft", "ppo", "reward", "baselines"}
    assert scores["base"]["bpb"] == metrics["base_bpb"]
    assert [sample["lang"] for sample in samples] == ["en", "en", "zh", "zh"]
    assert all(set(sample["replies"]) == set(sample["scores"]) == {"base", "sft", "ppo"} for sample in samples)


def test_a_stopped_evaluation_keeps_its_finished_waves(inputs, tmp_path, evaluated):
    ctx = local_context("evaluate", tmp_path)
    kept = tmp_path.parent / "documents_away"
    (tmp_path / "stop").touch()
    with pytest.raises(Preempted, match="after 0 of 4"):
        evaluate(ctx, CONFIG, **arguments(inputs))
    (tmp_path / "stop").unlink()
    evaluate(ctx, CONFIG, **arguments(inputs))
    shutil.move(inputs.documents, kept)
    try:
        again = evaluate(ctx, CONFIG, **arguments(inputs))
    finally:
        shutil.move(kept, inputs.documents)
    assert again == evaluated[1]


def test_a_model_of_another_tokenizer_is_refused(inputs, tmp_path):

    shutil.copytree(inputs.tokenizer, tmp_path / "tokenizer")
    train_bpe(["abc abc"], 270, 1).save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    with pytest.raises(StepError, match="another tokenizer"):
        measure(replace(inputs, tokenizer=tmp_path / "tokenizer"), "bits_per_byte", "base")


def test_rows_longer_than_the_model_reads_are_refused_with_the_length_that_fits(inputs):
    with pytest.raises(StepError) as caught:
        measure(inputs, "bits_per_byte", "base", EvaluateConfig(length=128))
    assert caught.value.fix == "set evaluate.length=64"
