"""Replies under a model: equal to the plain computation, whatever the padding."""

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.errors import StepError
from components.model.config import ModelConfig
from components.model.heads import ScalarModel
from components.model.transformer import Transformer
from components.posttrain.judge import Scale, read_scale
from components.posttrain.prompts import read_table
from components.posttrain.replies import (
    Episode,
    ReplyScorer,
    batches_by_length,
    last_values,
    pad_episodes,
    reply_log_probs,
    score_replies,
)

SHAPE = ModelConfig(vocab_size=40, dim=32, num_layers=2, num_heads=2, num_kv_heads=1, ffn_dim=64, max_length=32)
EPISODES = [Episode([1, 4, 9], [20, 21, 6]), Episode([1, 8], [30]), Episode([1, 4, 9, 11, 5], [7] * 9, finished=False)]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def model(request):
    torch.set_num_threads(1)
    shape = ModelConfig(**{**vars(SHAPE), "tie_embeddings": request.param})
    return Transformer(shape, torch.Generator().manual_seed(0)).requires_grad_(False)


def plain_log_probs(model, episode, temperature=1.0):
    logits = model(torch.tensor([episode.prompt + episode.reply]))[0] / temperature
    start = len(episode.prompt) - 1
    rows = logits.log_softmax(-1)[start : start + len(episode.reply)]
    return rows.gather(1, torch.tensor(episode.reply)[:, None]).squeeze(1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_of_replies_equal_a_plain_forward_of_each_alone(model, temperature):
    for batch_size in (1, 3):
        found = reply_log_probs(model, EPISODES, temperature, batch_size)
        for log_probs, episode in zip(found, EPISODES, strict=True):
            assert torch.allclose(log_probs, plain_log_probs(model, episode, temperature), atol=1e-5)


def test_entropy_is_that_of_the_whole_distribution(model):
    tokens, mask = pad_episodes(EPISODES)
    _, entropy = ReplyScorer(model)(tokens, mask, 1.0, True)
    log_probs = model(tokens)[:, :-1].log_softmax(-1)
    assert torch.allclose(entropy, -(log_probs.exp() * log_probs).sum(-1) * mask, atol=1e-5)


def test_nothing_is_said_about_prompts_and_padding(model):
    tokens, mask = pad_episodes(EPISODES)
    log_probs, _ = ReplyScorer(model)(tokens, mask)
    assert log_probs[~mask].abs().max() == 0 > log_probs[mask].max()


def test_the_mask_covers_exactly_the_replies():
    tokens, mask = pad_episodes(EPISODES, width=20)
    assert tokens.shape == (3, 20)
    assert [tokens[row, 1:][mask[row]].tolist() for row in range(3)] == [episode.reply for episode in EPISODES]


def test_a_reply_is_scored_at_its_last_token_whatever_the_padding():
    judge = ScalarModel(SHAPE, torch.Generator().manual_seed(3))
    torch.nn.init.normal_(judge.score.weight, generator=torch.Generator().manual_seed(4))
    alone = [judge(torch.tensor([e.prompt + e.reply]))[0, -1].item() for e in EPISODES]
    assert score_replies(judge, EPISODES) == pytest.approx(alone, abs=1e-5)
    tokens, mask = pad_episodes(EPISODES, width=25)
    assert last_values(judge(tokens), mask).tolist() == pytest.approx(alone, abs=1e-5)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 7))
def test_batches_by_length_hold_every_row_once_and_like_with_like(lengths, batch_size):
    batches = batches_by_length(lengths, batch_size)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
    assert all(len(batch) <= batch_size for batch in batches)


def test_scores_are_normalised_by_the_stored_scale(tmp_path):
    assert Scale(2.0, 4.0).normalise(torch.tensor([2.0, 10.0])).tolist() == [0.0, 2.0]
    with pytest.raises(StepError, match="no scale"):
        read_scale(tmp_path)


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "prompts.arrow"
    path.write_bytes(b"not arrow")
    with pytest.raises(StepError) as caught:
        read_table(path)
    assert caught.value.where == str(path)
    with pytest.raises(StepError):
        read_table(tmp_path / "missing.arrow")


def test_a_table_reads_back_as_rows(tmp_path):
    table = pa.table({"id": ["a"], "prompt": [[{"role": "user", "content": "hi"}]]})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert read_table(tmp_path / "t.arrow") == [{"id": "a", "prompt": [{"role": "user", "content": "hi"}]}]
