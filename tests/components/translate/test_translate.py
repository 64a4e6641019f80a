"""Training on pairs and judging it: it learns, transformers writes the same, the scores are the libraries' own."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from components.context import local_context
from components.errors import ConfigError, Preempted, StepError
from components.model.config import ModelConfig
from components.model.huggingface import load_encoder_decoder
from components.pairs.table import read_pairs
from components.posttrain.prompts import read_table
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS, PAD
from components.translate.config import EvaluateTranslationConfig, TranslateConfig
from components.translate.data import encode_source, read_encoded
from components.translate.evaluate import Work, evaluate_translation
from components.translate.scores import bleu_cut, nearest, score_texts
from components.translate.step import translate
from components.translate.task import Translation
from components.translate.writing import write
from tests.components.translate.conftest import CONFIG
from tests.support.checkpoint_help import go_on_over_a_damaged_checkpoint, guarded, half_way, hand_over, left_out


def test_it_learns_to_write_the_targets(trained, prepared):
    metrics, output = trained
    curve = json.loads((output / "curve.json").read_text())
    assert metrics["val_loss"] == curve[-1]["val_loss"] < 0.3
    assert metrics["dropped"] == 0
    held_out = read_pairs(prepared[0] / "held_out.arrow")
    work = Work(output / "model", tuple(pair.source for pair in held_out), 1, EvaluateTranslationConfig())
    right = [text == pair.target for text, pair in zip(write(work), held_out, strict=True)]
    assert sum(right) > 0.6 * len(right)


def test_transformers_loads_it_and_writes_the_same(trained, prepared):
    from transformers import AutoModelForSeq2SeqLM

    folder = trained[1] / "model"
    theirs = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    assert type(theirs).__name__ == "MarianMTModel"
    tokenizer = TextTokenizer.from_folder(folder)
    sources = tuple(pair.source for pair in read_pairs(prepared[0] / "held_out.arrow", 8))
    for beams in (1, 3):
        ours = write(Work(folder, sources, beams, EvaluateTranslationConfig(micro_batch=4)))
        for source, text in zip(sources, ours, strict=True):
            ids = torch.tensor([encode_source(tokenizer, source, 24)])
            out = theirs.generate(ids, num_beams=beams, do_sample=False, max_new_tokens=23, decoder_start_token_id=BOS)
            assert tokenizer.decode(out[0].tolist()) == text


def test_stopped_and_run_again_it_gives_the_same_bytes(prepared, tmp_path):
    short = dataclasses.replace(
        CONFIG,
        model=dataclasses.replace(CONFIG.model, dropout=0.1),
        training=dataclasses.replace(CONFIG.training, steps=24, checkpoint_every=8),
    )
    whole = local_context("translate", tmp_path / "whole", 17)
    translate(whole, short, *prepared)
    cut = local_context("translate", tmp_path / "cut", 17)
    (tmp_path / "cut" / "stop").touch()
    with pytest.raises(Preempted):
        translate(cut, short, *prepared)
    (tmp_path / "cut" / "stop").unlink()
    translate(cut, short, *prepared)
    name = "model/model.safetensors"
    assert (cut.output / name).read_bytes() == (whole.output / name).read_bytes()


@pytest.fixture(scope="module")
def guarded_run(prepared, tmp_path_factory):
    """A run that saves half way and leaves batches out."""
    folder = tmp_path_factory.mktemp("guarded")
    translate(local_context("translate", folder, 17), guarded(CONFIG), *prepared)
    return folder


def test_a_checkpoint_is_a_folder_that_transformers_loads(guarded_run):
    from transformers import AutoModelForSeq2SeqLM

    theirs = AutoModelForSeq2SeqLM.from_pretrained(half_way(guarded_run)).eval()
    assert type(theirs).__name__ == "MarianMTModel"
    tokens = torch.arange(10, 40).view(2, 15)
    with torch.no_grad():
        ours = load_encoder_decoder(half_way(guarded_run)).eval()(tokens, tokens.flip(1))
        logits = theirs(tokens, decoder_input_ids=tokens.flip(1)).logits
    torch.testing.assert_close(logits, ours, atol=1e-5, rtol=0)


def test_over_a_damaged_checkpoint_a_run_goes_on_to_the_same_bits(guarded_run, prepared, tmp_path):
    def start(folder):
        translate(local_context("translate", folder, 17), guarded(CONFIG), *prepared)

    go_on_over_a_damaged_checkpoint(start, guarded_run, tmp_path)


def test_a_batch_that_is_left_out_names_its_pairs(guarded_run, prepared):
    rows = {row["id"]: row for row in read_table(prepared[0] / "train.arrow")}
    for line in left_out(guarded_run, rows):
        assert len(line["documents"]) == 32
    tokenizer = TextTokenizer.from_folder(prepared[1])
    pairs, _ = read_encoded(prepared[0] / "train.arrow", tokenizer, 24)
    task = Translation(CONFIG.training, pairs, pairs[:5], 3)
    read = [tokenizer.decode(pair.target) for pair in task._train.step(2)]
    assert [rows[name]["target"] for name in task.documents(2)] == read


@pytest.mark.slow  # two processes that import DeepSpeed
def test_one_rank_goes_on_from_two_at_zero_3(prepared, tmp_path):
    def start(config, folder):
        translate(local_context("translate", folder, 17), config, *prepared)

    hand_over(start, CONFIG, tmp_path)


def test_ranks_together_read_every_pair_of_a_step(prepared):
    pairs, _ = read_encoded(prepared[0] / "train.arrow", TextTokenizer.from_folder(prepared[1]), 24)
    task = Translation(CONFIG.training, pairs, pairs[:5], 3)
    for step in (0, 20):
        parts = [*task.micro_batches(step, 0, 2), *task.micro_batches(step, 1, 2)]
        assert len(parts) == 2
        rows = sorted(str(row[row != PAD].tolist()) for batch in parts for row in batch["sources_BS"])
        assert rows == sorted(str(pair.source) for pair in task._train.step(step))
        assert task.units(step) == sum(int((batch["targets_BT"] != -100).sum()) for batch in parts)


def test_pairs_that_are_too_long_are_counted_and_none_left_is_refused(prepared):
    tokenizer = TextTokenizer.from_folder(prepared[1])
    kept, dropped = read_encoded(prepared[0] / "train.arrow", tokenizer, 4)
    assert dropped > 0
    assert all(len(pair.source) <= 4 and pair.target[-1] == EOS for pair in kept)
    with pytest.raises(StepError, match=r"None of \d+ pairs"):
        read_encoded(prepared[0] / "train.arrow", tokenizer, 1)


def test_it_is_judged_beside_a_copy_and_the_nearest_pair(trained, prepared, tmp_path):
    context = local_context("evaluate_translation", tmp_path)
    metrics = evaluate_translation(context, EvaluateTranslationConfig(num_beams=2), trained[1], prepared[0])
    written = json.loads((context.output / "written.json").read_text())
    scores = json.loads((context.output / "scores.json").read_text())
    table, samples = json.loads((context.output / "tables.json").read_text())
    texts, references = [row["beam"] for row in written], [row["reference"] for row in written]
    assert scores["tokenize"] == "zh"
    assert scores["beam"] == score_texts(texts, references, "zh")
    assert metrics["exact"] == sum(map(str.__eq__, texts, references)) / len(texts) > 0.6
    assert metrics["chrf"] > metrics["nearest_chrf"] > metrics["copy_chrf"]
    kinds = {pair.kind for pair in read_pairs(prepared[0] / "held_out.arrow")}
    assert set(scores["by_kind"]) == kinds >= {"2 digits", "3 digits"}
    assert [row[0] for row in table["rows"]][:4] == ["beam 2", "greedy", "nearest", "copy"]
    assert len(samples["rows"]) == 3 * len(kinds)


def test_scores_are_the_libraries_own():
    import sacrebleu

    written, references = ["the cat sat on a mat", "你好世界"], ["the cat sat on the mat", "你好，世界"]
    scores = score_texts(written, references, "13a")
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, [references]).score)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, [references]).score)
    assert scores["rouge1"] == pytest.approx((5 / 6 + 1.0) / 2)  # 5 of 6 words each way; all four characters
    assert scores["exact"] == 0
    assert score_texts(references, references, "zh")["bleu"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("tokenize", "references", "cut"),
    [("auto", ["你好"], "zh"), ("auto", ["hello"], "13a"), ("char", ["你好"], "char")],
)
def test_bleu_cuts_chinese_as_chinese(tokenize, references, cut):
    assert bleu_cut(tokenize, references) == cut


def test_the_nearest_source_shares_most_rare_runs():
    assert nearest(["March 5, 2020", "3 kilometers", "5 liters"], ["7 kilometers", "March 9, 2020"]) == [1, 0]


def test_a_small_vocabulary_in_the_shape_is_refused(prepared, tmp_path):
    small = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, vocab_size=100))
    with pytest.raises(StepError, match="has room for 100"):
        translate(local_context("translate", tmp_path), small, *prepared)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TranslateConfig(model=ModelConfig()),
        lambda: TranslateConfig(model=dataclasses.replace(CONFIG.model, max_length=3)),
        lambda: TranslateConfig(held_out_pairs=0),
        lambda: EvaluateTranslationConfig(num_beams=1),
        lambda: EvaluateTranslationConfig(tokenize="words"),
        lambda: EvaluateTranslationConfig(pairs=0),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()
