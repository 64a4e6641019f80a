"""Fine-tuning and judging a classifier: it learns, transformers and ranks agree, the baselines are what they say."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score

from components.classify.baselines import accuracy, bag_of_words, lead, macro_f1, most_frequent
from components.classify.config import ClassifyConfig, EvaluateClassifierConfig
from components.classify.data import lay_out, read_classifier, read_examples, read_labels
from components.classify.evaluate import evaluate_classifier
from components.classify.step import classify
from components.classify.task import Labels, label_scores
from components.context import local_context
from components.errors import ConfigError, Preempted, StepError
from components.labelled.table import read_labelled
from components.model.huggingface import load_classifier, save_model
from components.model.transformer import Transformer
from components.tokenizer.load import TextTokenizer
from tests.components.classify.conftest import CONFIG, SHAPE
from tests.support.checkpoint_help import go_on_over_a_damaged_checkpoint, guarded, half_way, hand_over, left_out


def start(config, base, texts, folder):
    context = local_context("classify", folder, config.seed)
    return classify(context, config, base, texts), context.output


@pytest.fixture(scope="module")
def trained(base, texts, tmp_path_factory):
    return start(CONFIG, base, texts, tmp_path_factory.mktemp("classify"))


def test_it_learns_which_words_say_the_label(trained):
    metrics, output = trained
    curve = json.loads((output / "curve.json").read_text())
    assert [row["step"] for row in curve] == [0, 25, 50]
    assert metrics["val_accuracy"] == curve[-1]["val_accuracy"] > 0.95
    assert metrics["val_loss"] < curve[0]["val_loss"]


def test_the_same_settings_give_the_same_bytes_whether_stopped_or_not(trained, base, texts, tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Preempted):
        start(CONFIG, base, texts, tmp_path)
    (tmp_path / "stop").unlink()
    _, again = start(CONFIG, base, texts, tmp_path)
    name = "model/model.safetensors"
    assert (again / name).read_bytes() == (trained[1] / name).read_bytes()


def test_transformers_loads_it_with_the_names_of_the_labels_and_scores_alike(trained, texts):
    from transformers import AutoModelForSequenceClassification

    folder = trained[1] / "model"
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    labels = read_labels(texts)
    examples = read_examples(texts / "held_out.arrow", labels, TextTokenizer.from_folder(folder), 32)
    batch = lay_out(examples[:5], 5)
    with torch.no_grad():
        ours = label_scores(load_classifier(folder).eval(), batch)
        mask = batch["segments_BT"] == 0
        expected = theirs(batch["tokens_BT"], attention_mask=mask.long()).logits
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def guarded_run(base, texts, tmp_path_factory):
    """A run that saves half way and leaves batches out."""
    folder = tmp_path_factory.mktemp("guarded")
    start(guarded(CONFIG), base, texts, folder)
    return folder


def test_a_checkpoint_is_a_folder_that_transformers_loads(guarded_run):
    from transformers import AutoModelForSequenceClassification

    theirs = AutoModelForSequenceClassification.from_pretrained(half_way(guarded_run)).eval()
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    tokens = torch.arange(10, 40).view(2, 15)
    with torch.no_grad():
        ours = load_classifier(half_way(guarded_run)).eval()(tokens)
        torch.testing.assert_close(theirs(tokens).logits, ours, atol=1e-5, rtol=0)


def test_over_a_damaged_checkpoint_a_run_goes_on_to_the_same_bits(guarded_run, base, texts, tmp_path):
    go_on_over_a_damaged_checkpoint(lambda folder: start(guarded(CONFIG), base, texts, folder), guarded_run, tmp_path)


def test_a_batch_that_is_left_out_names_its_texts(guarded_run, base, texts):
    rows = {row.id: row for row in read_labelled(texts / "train.arrow")}
    assert left_out(guarded_run, rows)
    tokenizer = TextTokenizer.from_folder(base / "tokenizer")
    task = Labels(CONFIG.training, read_examples(texts / "train.arrow", ["bad", "good"], tokenizer, 32), [], 3)
    read = [tokenizer.decode(example.ids) for example in task._train.step(2)]
    assert [rows[name].text for name in task.documents(2)] == read


@pytest.mark.slow  # two processes that import DeepSpeed
def test_one_rank_goes_on_from_two_at_zero_3(base, texts, tmp_path):
    still = dataclasses.replace(CONFIG, dropout=0.0)
    hand_over(lambda config, folder: start(config, base, texts, folder), still, tmp_path)


def test_padding_changes_no_score(trained, texts):
    folder = trained[1] / "model"
    examples = read_examples(texts / "held_out.arrow", ["bad", "good"], TextTokenizer.from_folder(folder), 32)
    model = load_classifier(folder).eval()
    long = dataclasses.replace(examples[0], ids=[*examples[0].ids, *examples[0].ids[1:8]])
    with torch.no_grad():
        alone = label_scores(model, lay_out([examples[0]], 1))
        padded = label_scores(model, lay_out([examples[0], long], 3))[:1]
    torch.testing.assert_close(alone, padded, atol=1e-6, rtol=0)


def test_ranks_together_read_every_text_once(base, texts):
    tokenizer = TextTokenizer.from_folder(base / "tokenizer")
    examples = read_examples(texts / "train.arrow", read_labels(texts), tokenizer, 32)
    task = Labels(CONFIG.training, examples, examples[:5], 3)
    for step in (0, 3):
        halves = [*task.micro_batches(step, 0, 2), *task.micro_batches(step, 1, 2)]
        rows = sorted(str(row[row != 0].tolist()) for batch in halves for row in batch["tokens_BT"])
        assert rows == sorted(str(example.ids) for example in task._train.step(step))
    epoch = [str(e.ids) for step in range(-(-len(examples) // 16)) for e in task._train.step(step)][: len(examples)]
    assert sorted(epoch) == sorted(str(example.ids) for example in examples)


@pytest.mark.slow  # two processes that import DeepSpeed
def test_two_ranks_learn_as_one_does(base, texts, tmp_path):
    still = dataclasses.replace(CONFIG, dropout=0.0, training=dataclasses.replace(CONFIG.training, steps=10))
    both = dataclasses.replace(still.training, engine="deepspeed", ranks=2, micro_batch=4)
    _, one = start(still, base, texts, tmp_path / "one")
    _, two = start(dataclasses.replace(still, training=both), base, texts, tmp_path / "two")
    for row, same in zip(*(json.loads((folder / "curve.json").read_text()) for folder in (one, two)), strict=True):
        assert row == pytest.approx(same, rel=1e-3, abs=1e-6)


def test_it_is_judged_beside_a_bag_of_words_and_the_most_frequent_label(trained, texts, tmp_path):
    context = local_context("evaluate_classifier", tmp_path)
    metrics = evaluate_classifier(context, EvaluateClassifierConfig(), trained[1], texts)
    scores = json.loads((context.output / "scores.json").read_text())
    [table] = json.loads((context.output / "tables.json").read_text())
    predictions = json.loads((context.output / "predictions.json").read_text())
    asked = read_labelled(texts / "held_out.arrow")
    assert [row["label"] for row in predictions] == [row.label for row in asked]
    right = sum(row["label"] == row["said"] for row in predictions) / len(asked)
    assert metrics["accuracy"] == scores["classifier"]["accuracy"] == right
    assert metrics["bag_of_words_accuracy"] == 1.0
    assert 0.3 < metrics["majority_accuracy"] < 0.7
    assert [row[0] for row in table["rows"]] == ["pre-trained encoder", "bag of words", "most frequent label"]


def test_the_same_shape_from_scratch_is_judged_beside_it_on_the_same_texts(trained, base, texts, tmp_path):
    unlearned = dataclasses.replace(CONFIG.training, steps=1, warmup_steps=0, lr=1e-9)
    _, scratch = start(dataclasses.replace(CONFIG, scratch=True, training=unlearned), base, texts, tmp_path / "one")
    context = local_context("evaluate_classifier", tmp_path)
    metrics = evaluate_classifier(context, EvaluateClassifierConfig(), trained[1], texts, scratch)
    [table] = json.loads((context.output / "tables.json").read_text())
    names = ["pre-trained encoder", "encoder from scratch", "bag of words", "most frequent label"]
    assert [row[0] for row in table["rows"]] == names
    assert metrics["scratch_accuracy"] < 0.8
    assert metrics["scratch_lead"] == pytest.approx(metrics["accuracy"] - metrics["scratch_accuracy"])
    assert metrics["scratch_lead"] > 1.96 * metrics["scratch_lead_error"] > 0


def test_from_scratch_takes_the_shape_alone_and_pretrained_the_weights_too(base, texts, tmp_path):
    still = dataclasses.replace(CONFIG.training, steps=1, warmup_steps=0, lr=1e-9)
    given = load_file(base / "model" / "model.safetensors")
    for scratch in (False, True):
        config = dataclasses.replace(CONFIG, scratch=scratch, training=still)
        _, output = start(config, base, texts, tmp_path / str(scratch))
        found = load_file(output / "model" / "model.safetensors")
        name = "bert.embeddings.word_embeddings.weight"
        assert found[name].shape == given[name].shape
        assert torch.allclose(found[name], given[name], atol=1e-6) is not scratch


def test_fine_tuning_reads_no_held_out_text(trained, base, texts, tmp_path):
    names = ("train.arrow", "validation.arrow", "labels.json")
    for name in names:
        (tmp_path / name).write_bytes((texts / name).read_bytes())
    metrics, _ = start(CONFIG, base, tmp_path, tmp_path / "run")
    assert metrics["val_accuracy"] == trained[0]["val_accuracy"]


def test_a_lead_is_taken_text_by_text():
    labels = ["a", "b", "a", "b"]
    assert lead(["a", "b", "a", "a"], ["a", "a", "b", "b"], labels) == pytest.approx(
        (0.25, np.std([0, 1, 1, -1], ddof=1) / 2)
    )


def test_f1_and_accuracy_are_those_of_scikit_learn():
    labels, said = list("aabbbcccca"), list("abbbacccba")
    assert macro_f1(said, labels) == pytest.approx(f1_score(labels, said, average="macro"))
    assert accuracy(said, labels) == accuracy_score(labels, said)


def test_the_baselines_learn_from_training_texts_alone():
    assert most_frequent(["b", "a", "b", "a", "c"], 2) == ["a", "a"]
    texts = ["very good", "good day", "very bad", "bad day"] * 3
    assert bag_of_words(texts, ["+", "+", "-", "-"] * 3, ["good", "bad 好"], 2) == ["+", "-"]


def test_a_decoder_is_refused(base, texts, tmp_path):
    shape = dataclasses.replace(SHAPE, family="llama")
    save_model(Transformer(shape, torch.Generator().manual_seed(1)), tmp_path / "model", base / "tokenizer")
    with pytest.raises(StepError, match="is a llama; a classifier is made of an encoder"):
        start(CONFIG, tmp_path, texts, tmp_path / "run")


def test_texts_longer_than_the_model_reads_are_refused(base, texts, tmp_path):
    with pytest.raises(StepError, match="at most 40 tokens"):
        start(dataclasses.replace(CONFIG, max_length=64), base, texts, tmp_path)


def test_a_classifier_of_other_labels_is_refused(trained, texts, tmp_path):
    for name in ("train.arrow", "held_out.arrow"):
        (tmp_path / name).write_bytes((texts / name).read_bytes())
    (tmp_path / "labels.json").write_text('["other"]')
    with pytest.raises(StepError, match="tells bad, good apart"):
        evaluate_classifier(
            local_context("evaluate_classifier", tmp_path / "run"), EvaluateClassifierConfig(), trained[1], tmp_path
        )
    tokenizer = TextTokenizer.from_folder(trained[1] / "model")
    with pytest.raises(StepError, match="is none that the classifier knows"):
        read_examples(texts / "train.arrow", ["good"], tokenizer, 32)


def test_what_it_reads_is_kept_with_it(trained):
    assert read_classifier(trained[1]) == (["bad", "good"], 32)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClassifyConfig(max_length=2),
        lambda: ClassifyConfig(dropout=1.0),
        lambda: ClassifyConfig(validation_texts=0),
        lambda: EvaluateClassifierConfig(texts=1),
        lambda: EvaluateClassifierConfig(ngrams=0),
        lambda: EvaluateClassifierConfig(micro_batch=0),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()
