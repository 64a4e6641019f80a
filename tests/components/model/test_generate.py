"""The sampler: equal to Hugging Face's greedily, exact in its log-probabilities, blind to batch-mates."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.model.cache import KVCache
from components.model.config import ModelConfig, SamplingConfig
from components.model.generate import choose, generate, stream, truncated
from components.model.huggingface import hugging_face_config, to_hugging_face
from components.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=60, dim=48, num_layers=2, num_heads=6, num_kv_heads=2, ffn_dim=64, max_length=96)
DRAWN = SamplingConfig(max_new_tokens=24)
GREEDY = SamplingConfig(temperature=0, max_new_tokens=24)
STOPS = {2, 6, 11, 23, 37, 41, 50}


@pytest.fixture(scope="module")
def model():
    """Weights large enough that the next token is neither certain nor uniform."""
    model = Transformer(CONFIG, torch.Generator().manual_seed(2)).eval()
    model.backbone.embed.weight.data *= 12
    return model


def prompts(count, seed=1, longest=30):
    source = random.Random(seed)
    return [[source.randrange(7, 60) for _ in range(source.randrange(1, longest))] for _ in range(count)]


def teacher_forced(model, prompt, completion):
    tokens = torch.tensor([prompt + completion.tokens])
    log_probs = model(tokens[:, :-1]).log_softmax(-1)[0, len(prompt) - 1 :]
    return log_probs.gather(1, tokens[0, len(prompt) :, None]).squeeze(1)


def test_greedy_decoding_equals_hugging_face_token_for_token(model):
    from transformers import LlamaConfig, LlamaForCausalLM

    other = LlamaForCausalLM(LlamaConfig(**hugging_face_config(CONFIG))).eval()
    other.load_state_dict(to_hugging_face(CONFIG, model.state_dict()), strict=False)
    other.tie_weights()
    rows = prompts(12)
    for prompt, ours in zip(rows, generate(model, rows, GREEDY, STOPS, [0] * 12), strict=True):
        theirs = other.generate(
            torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=sorted(STOPS), pad_token_id=0
        )
        assert theirs[0, len(prompt) :].tolist() == ours.tokens


def test_sampled_log_probabilities_equal_a_teacher_forced_pass(model):
    rows = prompts(16)
    with torch.no_grad():
        for prompt, completion in zip(rows, generate(model, rows, DRAWN, STOPS, list(range(16))), strict=True):
            expected = teacher_forced(model, prompt, completion)
            assert (expected - torch.tensor(completion.log_probs)).abs().max() < 2e-5


def test_a_row_does_not_depend_on_its_batch_mates(model):
    rows, seeds = prompts(9), [50 + index for index in range(9)]
    together = generate(model, rows, DRAWN, STOPS, seeds)
    assert len({len(completion.tokens) for completion in together}) > 2
    for index, (prompt, completion) in enumerate(zip(rows, together, strict=True)):
        [alone] = generate(model, [prompt], DRAWN, STOPS, [seeds[index]])
        assert alone.tokens == completion.tokens
        assert alone.finished == completion.finished
        assert alone.log_probs == pytest.approx(completion.log_probs, abs=2e-5)
    backwards = generate(model, rows[::-1], DRAWN, STOPS, seeds[::-1])
    assert [completion.tokens for completion in backwards[::-1]] == [completion.tokens for completion in together]


def test_the_same_seeds_give_the_same_bits_and_others_other_tokens(model):
    rows = prompts(6)
    assert generate(model, rows, DRAWN, STOPS, list(range(6))) == generate(model, rows, DRAWN, STOPS, list(range(6)))
    assert generate(model, rows, DRAWN, STOPS, list(range(6))) != generate(model, rows, DRAWN, STOPS, list(range(1, 7)))


def test_a_row_ends_with_the_stop_token_or_is_cut(model):
    completions = generate(model, prompts(64), DRAWN, {*range(2, 7)}, list(range(64)))
    assert {completion.finished for completion in completions} == {True, False}
    for completion in completions:
        stops = [token in range(2, 7) for token in completion.tokens]
        assert not any(stops[:-1])
        assert stops[-1] == completion.finished
        assert completion.finished or len(completion.tokens) == 24
        assert len(completion.log_probs) == len(completion.tokens)


def test_streaming_gives_the_tokens_of_generate(model):
    [prompt] = prompts(1)
    [whole] = generate(model, [prompt], DRAWN, STOPS, [7])
    assert list(stream(model, prompt, DRAWN, STOPS, 7)) == whole.tokens


def test_no_rows_give_no_completions(model):
    assert generate(model, [], DRAWN, STOPS, []) == []


@pytest.mark.parametrize(
    ("rows", "seeds", "named"), [([[]], [1], "empty"), ([[7]], [1, 2], "seeds"), ([[7] * 80], [1], "max_length=96")]
)
def test_a_request_that_cannot_be_met_is_refused(model, rows, seeds, named):
    with pytest.raises(ValueError, match=named):
        generate(model, rows, DRAWN, STOPS, seeds)


def frequencies(logits, sampling, draws=100_000):
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(4))
    tokens, log_probs = choose(logits.expand(draws, -1), uniforms, sampling)
    return torch.bincount(tokens, minlength=logits.shape[1]) / draws, tokens, log_probs


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(),
        SamplingConfig(temperature=0.6),
        SamplingConfig(temperature=1.5, top_k=5),
        SamplingConfig(top_p=0.8),
        SamplingConfig(temperature=0.9, top_k=9, top_p=0.7),
        SamplingConfig(temperature=1.3, min_p=0.1),
    ],
)
def test_tokens_come_as_often_as_the_distribution_says(sampling):
    logits = torch.randn(1, 20, generator=torch.Generator().manual_seed(8)) * 2
    expected = truncated(logits / sampling.temperature, sampling).softmax(-1)[0]
    found, tokens, log_probs = frequencies(logits, sampling)
    spread = (expected * (1 - expected) / 100_000).sqrt()
    assert ((found - expected).abs() <= 5 * spread).all()
    torch.testing.assert_close(log_probs, expected[tokens].log(), rtol=0, atol=1e-5)


def test_top_k_keeps_k_top_p_the_shortest_list_that_reaches_p_min_p_what_is_near_the_likeliest():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()

    def kept(sampling):
        return truncated(logits, sampling).isfinite()[0].tolist()

    assert kept(SamplingConfig(top_k=2)) == [True, True, False, False]
    assert kept(SamplingConfig(top_p=0.75)) == [True, True, False, False]
    assert kept(SamplingConfig(top_p=0.85)) == [True, True, True, False]
    assert kept(SamplingConfig(top_p=1e-6)) == [True, False, False, False]
    assert kept(SamplingConfig(top_k=3, top_p=0.82)) == [True, True, False, False]
    assert kept(SamplingConfig(min_p=0.55)) == [True, True, False, False]
    assert kept(SamplingConfig(min_p=0.2)) == [True, True, True, False]
    assert kept(SamplingConfig(top_k=1, min_p=0.2)) == [True, False, False, False]


@given(
    logits=st.lists(st.floats(-50, 50), min_size=1, max_size=40),
    uniform=st.floats(0, 1, exclude_max=True, width=32),
    top_k=st.integers(0, 5),
    top_p=st.floats(0.01, 1),
)
def test_a_drawn_token_always_has_probability(logits, uniform, top_k, top_p):
    sampling = SamplingConfig(top_k=top_k, top_p=top_p)
    row = torch.tensor([logits])
    tokens, log_probs = choose(row, torch.tensor([uniform]), sampling)
    assert truncated(row, sampling)[0, tokens[0]].isfinite()
    assert log_probs.isfinite().all()


def test_the_largest_uniform_number_draws_the_last_token_that_has_probability():
    logits = torch.tensor([[0.3, 1.0, -torch.inf, -torch.inf]])
    tokens, _ = choose(logits, torch.tensor([1 - 2**-24]), SamplingConfig())
    assert tokens.tolist() == [1]


def test_a_cache_knows_each_rows_own_positions():
    cache = KVCache(CONFIG, torch.tensor([2, 0]), 8, torch.float32)
    assert cache.positions(4).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    cache.advance(4)
    assert cache.positions(1).tolist() == [[2], [4]]
