"""Masked words, gaps and document masks in the step: what is read, that ranks agree, that a model learns."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import transformers

from components.channel import Channel
from components.context import Rank, local_context
from components.errors import ConfigError, StepError
from components.model.config import ModelConfig
from components.model.export import load_any
from components.model.transformer import Transformer, build_model
from components.objectives.counts import num_gaps
from components.pretrain.config import PretrainConfig
from components.pretrain.masked import MaskedWords
from components.pretrain.rows import CutRows, without_padding
from components.pretrain.spans import Gaps
from components.pretrain.step import pretrain
from components.pretrain.task import NextToken
from components.shards.config import TokensConfig
from components.shards.inverse import documents_at
from components.shards.loader import Loader, TokenRows
from components.shards.schedule import Schedule
from components.shards.step import tokens
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import EOS, MASK, PAD
from components.tokenizer.step import tokenizer
from components.training.engine import make_engine
from tests.components.pretrain.conftest import CONFIG
from tests.support.checkpoint_help import go_on_over_a_damaged_checkpoint, guarded, half_way, left_out

SHAPES = {
    "masked": ModelConfig(
        family="bert", dim=32, num_layers=2, num_heads=2, num_kv_heads=2, ffn_dim=64, max_length=64, num_token_types=2
    ),
    "span": ModelConfig(
        family="encoder-decoder", dim=32, num_layers=1, num_heads=2, num_kv_heads=2, ffn_dim=64, max_length=64
    ),
}


def with_objective(config: PretrainConfig, objective: str, **changes) -> PretrainConfig:
    training = dataclasses.replace(config.training, steps=20, eval_every=10)
    return dataclasses.replace(config, objective=objective, model=SHAPES[objective], training=training, **changes)


@pytest.fixture(scope="module")
def masked_world(world, tmp_path_factory):
    """The corpus of counting sentences with a tokenizer that has masks."""
    root = tmp_path_factory.mktemp("masked")
    documents = world.tokens.parents[1] / "documents"
    vocabulary = local_context("tokenizer", root / "tokenizer")
    tokenizer(vocabulary, TokenizerConfig(vocab_size=328, masks=8), documents)
    rows = local_context("tokens", root / "tokens", 17)
    tokens(rows, TokensConfig(val_fraction=0.1), documents, vocabulary.output)
    return dataclasses.replace(world, tokens=rows.output, tokenizer=vocabulary.output)


@pytest.fixture
def parts(masked_world):
    loader = Loader.open(masked_world.tokens, Schedule(3, 8, 32))
    text = TextTokenizer.from_folder(masked_world.tokenizer)
    return loader, TokenRows.open(masked_world.tokens / "val", 32), text


def masked_task(config, parts, seed=5, **changes):
    loader, validation, text = parts
    return MaskedWords(
        with_objective(config, "masked", **changes), loader, validation, text, seed, lambda engine, step: None
    )


def gap_task(config, parts, seed=5):
    loader, validation, _ = parts
    return Gaps(with_objective(config, "span"), loader, validation, seed, lambda engine, step: None)


def joined(batches, name):
    return torch.cat([batch[name] for batch in batches])


@pytest.mark.parametrize("make", [masked_task, gap_task])
def test_ranks_together_read_what_one_reads_and_a_step_is_the_same_whenever_it_is_asked_for(config, parts, make):
    task, again = make(config, parts), make(config, parts)
    again.micro_batches(2, 0, 1)
    for step in (0, 7):
        whole = task.micro_batches(step, 0, 1)
        halves = [*again.micro_batches(step, 0, 2), *again.micro_batches(step, 1, 2)]
        for name in whole[0]:
            assert torch.equal(joined(whole, name), joined(halves, name))
        assert task.units(step) == int((joined(whole, "targets_BT") != -100).sum())
    other = make(config, parts, seed=6).micro_batches(0, 0, 1)
    assert not torch.equal(joined(other, "targets_BT"), joined(task.micro_batches(0, 0, 1), "targets_BT"))


def test_a_row_that_comes_again_hides_other_tokens(config, parts):
    loader, _, _ = parts
    task, per_epoch = masked_task(config, parts), loader.num_rows
    seen = {}
    for step in range(2 * per_epoch // 8 + 1):
        targets = joined(task.micro_batches(step, 0, 1), "targets_BT").numpy()
        for row, target in zip(loader.batch(step).tokens, targets, strict=True):
            seen.setdefault(row.tobytes(), set()).add((target != -100).tobytes())
    assert sum(len(patterns) > 1 for patterns in seen.values()) > 0.9 * len(seen) / 2


def test_every_row_draws_for_itself_whatever_its_place_in_the_batch(config, parts):
    loader, validation, _ = parts
    rows = CutRows(config.training, loader, validation, lambda row, generator: int(generator.integers(1 << 60)), 5)
    drawn = [value for step in range(4) for value in rows.step(step)]
    assert len(set(drawn)) == 32
    assert rows.scored([0, 1]) == rows.scored([0, 1])
    assert not set(rows.scored([0, 1])) & set(drawn)


def test_masked_rows_say_again_what_the_loader_gave(config, parts):
    loader, _, _ = parts
    batches = masked_task(config, parts).micro_batches(4, 0, 1)
    tokens_BT, targets_BT = (joined(batches, name).numpy() for name in ("tokens_BT", "targets_BT"))
    ids = loader.batch(4).tokens
    hidden = targets_BT != -100
    np.testing.assert_array_equal(np.where(hidden, targets_BT, tokens_BT), ids)
    assert 0.1 < hidden.mean() < 0.2
    assert (tokens_BT[hidden] == MASK).mean() > 0.6


def test_gaps_cut_the_rows_of_the_loader(config, parts):
    loader, _, _ = parts
    [batch, _] = gap_task(config, parts).micro_batches(4, 0, 1)
    noise, spans = num_gaps(32, 0.15, 3.0)
    assert batch["sources_BS"].shape == (4, 32 - noise + spans)
    assert batch["targets_BT"].shape == (4, noise + spans + 1)
    assert (batch["targets_BT"][:, -1] == EOS).all()
    kept = batch["sources_BS"][0][batch["sources_BS"][0] < MASK].tolist()
    assert set(kept) <= set(loader.batch(4).ids[0].tolist())


@pytest.mark.parametrize("size", [2, 5, 9])
def test_padding_is_no_part_of_a_gapped_row(size):
    row = np.array([20] * size + [PAD] * (9 - size))
    assert without_padding(row).tolist() == [20] * size


def test_whole_words_and_document_masks_reach_the_batches(config, parts):
    plain = masked_task(config, parts).micro_batches(0, 0, 1)[0]
    apart = masked_task(config, parts, whole_words="pieces", document_mask=True).micro_batches(0, 0, 1)[0]
    assert (plain["segments_BT"] == 0).all()
    assert (apart["segments_BT"].diff(dim=1) >= 0).all()
    assert apart["segments_BT"].max() > 0
    assert not torch.equal(plain["targets_BT"], apart["targets_BT"])


def run(config, world, folder):
    context = local_context("pretrain", folder, config.seed)
    return pretrain(context, config, tokens=world.tokens, tokenizer=world.tokenizer), context.output


@pytest.mark.parametrize(("objective", "scores"), [("masked", {"val_loss", "val_accuracy"}), ("span", {"val_loss"})])
def test_the_step_learns_each_objective(config, masked_world, tmp_path, objective, scores):
    metrics, output = run(with_objective(config, objective), masked_world, tmp_path)
    curve = json.loads((output / "curve.json").read_text())
    assert {name for name in metrics if name.startswith("val_")} == scores
    assert curve[-1]["val_loss"] == metrics["val_loss"] < curve[0]["val_loss"] < math.log(328)
    assert (output / "model" / "config.json").is_file()
    assert json.loads((output / "samples.json").read_text())["samples"] == []


CLASSES = {
    "next-token": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "span": "AutoModelForSeq2SeqLM",
}


def to_guard(objective):
    """Settings under which a run saves half way and leaves batches out."""
    return guarded(CONFIG if objective == "next-token" else with_objective(CONFIG, objective))


@pytest.fixture(scope="module", params=CLASSES)
def guarded_run(request, masked_world, tmp_path_factory):
    """An objective, and the folder of such a run."""
    folder = tmp_path_factory.mktemp("guarded")
    run(to_guard(request.param), masked_world, folder)
    return request.param, folder


def test_a_checkpoint_is_a_folder_that_transformers_loads(guarded_run):
    objective, folder = guarded_run
    theirs = getattr(transformers, CLASSES[objective]).from_pretrained(half_way(folder)).eval()
    tokens = torch.arange(10, 40).view(2, 15)
    with torch.no_grad():
        ours = load_any(half_way(folder)).eval()(*([tokens] * (1 + (objective == "span"))))
        told = {"decoder_input_ids": tokens} if objective == "span" else {}
        torch.testing.assert_close(theirs(tokens, **told).logits, ours, atol=1e-5, rtol=0)


def test_over_a_damaged_checkpoint_a_run_goes_on_to_the_same_bits(guarded_run, masked_world, tmp_path):
    objective, folder = guarded_run
    go_on_over_a_damaged_checkpoint(lambda other: run(to_guard(objective), masked_world, other), folder, tmp_path)


def test_a_batch_that_is_left_out_names_its_documents(guarded_run, masked_world):
    _, folder = guarded_run
    order = json.loads((folder / "output" / "order.json").read_text())
    schedule = Schedule.from_json(order)
    split = Loader.open(masked_world.tokens, schedule).split
    for line in left_out(folder, {split.doc_id(number).hex() for number in range(split.num_documents)}):
        seen = documents_at(masked_world.tokens, None, schedule, line["step"])
        assert set(line["documents"]) == {one.doc_id.hex() for one in seen}


@pytest.mark.parametrize("objective", ["masked", "span"])
def test_a_new_run_goes_on_from_an_old_one_with_the_bits_of_one_go(masked_world, tmp_path, objective):
    config = to_guard(objective)
    run(config, masked_world, tmp_path / "whole")
    later = dataclasses.replace(config, init=str(half_way(tmp_path / "whole")), resume=True)
    run(later, masked_world, tmp_path / "resumed")
    for name in ("curve.json", "model/model.safetensors", "order.json"):
        whole, resumed = (tmp_path / one / "output" / name for one in ("whole", "resumed"))
        assert resumed.read_bytes() == whole.read_bytes(), name


@pytest.mark.parametrize("guarded_run", ["masked"], indirect=True)
@pytest.mark.parametrize("changes", [{"mask_fraction": 0.2}, {"whole_words": "pieces"}])
def test_a_checkpoint_that_has_hidden_other_tokens_is_refused(guarded_run, masked_world, tmp_path, changes):
    _, folder = guarded_run
    later = dataclasses.replace(to_guard("masked"), init=str(half_way(folder)), resume=True, **changes)
    with pytest.raises(StepError, match="has hidden other tokens of its rows"):
        run(later, masked_world, tmp_path)


def test_evaluation_hides_the_same_tokens_each_time_and_counts_each_once(config, parts, tmp_path):
    task = masked_task(config, parts)
    _, validation, text = parts
    shape = dataclasses.replace(SHAPES["masked"], vocab_size=text.vocab_size)
    model = build_model(shape, torch.Generator().manual_seed(1))
    engine = make_engine(model, config.training, Rank(0, 1, 0, "cpu", Channel(tmp_path)))
    engine.module.eval()
    with torch.no_grad():
        one, again = task.evaluate(engine, 1), task.evaluate(engine, 2)
        batch = [example for row in range(validation.num_rows) for example in task._rows.scored([row])]
        seen = torch.from_numpy(np.stack([row.seen for row in batch]))
        targets = torch.from_numpy(np.stack([row.targets for row in batch]))
        segments = torch.from_numpy(np.stack([row.segments for row in batch]))
        nats = float(model(seen, targets, segments_BT=segments))
    assert one == again
    assert one["val_loss"] == pytest.approx(nats / int((targets != -100).sum()), rel=1e-5)
    assert 0 <= one["val_accuracy"] <= 1


@pytest.mark.slow  # two processes that import DeepSpeed
def test_two_ranks_learn_masked_words_as_one_does(config, masked_world, tmp_path):
    one = with_objective(config, "masked")
    two = dataclasses.replace(one, training=dataclasses.replace(one.training, engine="deepspeed", ranks=2))
    curves = []
    for name, settings in (("one", one), ("two", two)):
        _, output = run(settings, masked_world, tmp_path / name)
        curves.append(json.loads((output / "curve.json").read_text()))
    for row, same in zip(*curves, strict=True):
        assert row == pytest.approx(same, rel=1e-4)


def test_a_tokenizer_without_masks_is_refused_before_any_rank_starts(config, world, tmp_path):
    with pytest.raises(StepError, match="has 0 masks, the objective masked hides with 1"):
        run(with_objective(config, "masked"), world, tmp_path)


def test_with_a_document_mask_a_row_is_its_documents_alone(config, world):
    loader = Loader.open(world.tokens, Schedule(3, 8, 32))
    validation = TokenRows.open(world.tokens / "val", 32)
    task = NextToken(config.training, loader, validation, lambda engine, step: None, 0, True)
    step = next(step for step in range(50) if loader.batch(step).documents[:4].max() > 0)  # a document ends in a row
    [batch, _] = task.micro_batches(step, 0, 1)
    assert batch["segments_BT"].tolist() == loader.batch(step).documents[:4].tolist()
    model = Transformer(dataclasses.replace(config.model, vocab_size=320), torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        whole = float(task.loss(model, batch))
    alone = 0.0
    for row, targets, documents in zip(
        *(batch[name] for name in ("tokens_BT", "targets_BT", "segments_BT")), strict=True
    ):
        for number in documents.unique():
            mine = documents == number
            alone += float(model(row[mine][None], targets[mine][None]).detach())
    assert whole == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "masked"}, "bert"),
        ({"objective": "next-token", "model": SHAPES["masked"]}, "objective=masked"),
        ({"objective": "next-token", "model": SHAPES["span"]}, "objective=span"),
        ({"objective": "guess"}, "must be one of"),
        ({"mask_fraction": 1.0}, "between 0 and 1"),
        ({"span_length": 0.5}, "at least 1"),
        ({"whole_words": "pieces"}, "objective=masked alone"),
        ({"objective": "span", "model": SHAPES["span"], "document_mask": True}, "does not go with"),
    ],
)
def test_objectives_that_cannot_be_learned_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        PretrainConfig(length=32, sample_tokens=0, **changes)


def test_the_masks_an_objective_needs_are_known_from_the_settings(config):
    assert config.num_masks == 0
    assert with_objective(config, "masked").num_masks == 1
    assert with_objective(config, "span").num_masks == num_gaps(32, 0.15, 3.0)[1]
