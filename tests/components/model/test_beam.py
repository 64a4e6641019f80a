"""Beam search and encoder-decoder generation: the tokens of transformers, row by row."""

from __future__ import annotations

import random

import pytest
import torch

from components.errors import ConfigError
from components.model.config import ModelConfig, SamplingConfig
from components.model.generate import generate, stream
from components.model.transformer import build_model
from tests.support.twin_help import twin_of

SHAPE = {"vocab_size": 40, "dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 4, "ffn_dim": 48}
STOPS = {2, 6, 11, 23}
FAMILIES = {
    "llama": {"num_kv_heads": 2},
    "gpt2": {"family": "gpt2"},
    "bloom": {"family": "gpt2", "positions": "alibi", "embed_norm": True, "ffn_dim": 128},
    "qwen3": {"qk_norm": True, "num_kv_heads": 1, "head_width": 12},
    # Its weights have other names in memory than on disk, so no twin: the log-probabilities are tested instead.
    "mixtral": {"num_experts": 4, "num_kv_heads": 2, "tie_embeddings": False},
    "marian": {"family": "encoder-decoder"},
    "bart": {"family": "encoder-decoder", "positions": "learned", "embed_norm": True, "activation": "gelu"},
    "t5": {
        "family": "encoder-decoder",
        "positions": "t5",
        "norm": "rmsnorm",
        "post_norm": False,
        "bias": False,
        "scale_embeddings": False,
        "scale_attention": False,
        "scale_output": True,
        "relative_buckets": 8,
        "relative_max_distance": 20,
    },
}


def made(name, seed=2):
    """A model whose next token is neither certain nor uniform."""
    model = build_model(
        ModelConfig(**{**SHAPE, "max_length": 64, **FAMILIES[name]}), torch.Generator().manual_seed(seed)
    ).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    stack = getattr(model, "decoder", None) or model.backbone
    last = stack.blocks[-1].ffn_norm if stack.norm is None else stack.norm
    last.weight.data *= 15 * (32**0.5 if model.config.scale_output else 1)
    return model.requires_grad_(False)


def rows(count, seed=1, longest=12):
    source = random.Random(seed)
    return [[source.randrange(7, 40) for _ in range(source.randrange(1, longest))] for _ in range(count)]


def asked(model, count=6):
    """Prompts and sources: an encoder-decoder starts from one token."""
    return ([[0]] * count, rows(count)) if hasattr(model, "encoder") else (rows(count), None)


def theirs(model, prompts, sources, sampling):
    """What transformers writes, a row at a time, cut after its stop token."""
    twin = twin_of(model)
    options = {
        "max_new_tokens": sampling.max_new_tokens,
        "do_sample": False,
        "num_beams": sampling.num_beams,
        "length_penalty": sampling.length_penalty,
        "eos_token_id": sorted(STOPS),
        "pad_token_id": 1,
        "forced_eos_token_id": None,
        "decoder_start_token_id": 0,
    }
    written = []
    for index, prompt in enumerate(prompts):
        given = torch.tensor([prompt])
        if sources is None:
            out = twin.generate(given, attention_mask=torch.ones_like(given), **options)
        else:
            source = torch.tensor([sources[index]])
            out = twin.generate(source, attention_mask=torch.ones_like(source), decoder_input_ids=given, **options)
        tokens = out[0, len(prompt) :].tolist()
        ends = [place for place, token in enumerate(tokens) if token in STOPS]
        written.append(tokens[: ends[0] + 1] if ends else tokens)
    return written


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "mixtral"])
@pytest.mark.parametrize(("num_beams", "length_penalty"), [(1, 1.0), (3, 1.0)])
def test_every_family_writes_the_tokens_of_transformers(name, num_beams, length_penalty):
    model = made(name)
    prompts, sources = asked(model)
    sampling = SamplingConfig(0, max_new_tokens=14, num_beams=num_beams, length_penalty=length_penalty)
    ours = generate(model, prompts, sampling, STOPS, [0] * len(prompts), sources=sources)
    assert [completion.tokens for completion in ours] == theirs(model, prompts, sources, sampling)
    assert len({tuple(completion.tokens) for completion in ours}) > 1


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.6, 2.0])
@pytest.mark.parametrize("num_beams", [2, 5])
def test_a_search_at_any_width_and_penalty_is_that_of_transformers(num_beams, length_penalty):
    model = made("gpt2", seed=4)
    prompts = rows(10, seed=num_beams)
    sampling = SamplingConfig(0, max_new_tokens=12, num_beams=num_beams, length_penalty=length_penalty)
    ours = generate(model, prompts, sampling, STOPS, [0] * 10)
    assert [completion.tokens for completion in ours] == theirs(model, prompts, None, sampling)
    assert length_penalty > 1 or any(completion.finished for completion in ours)


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "t5"])
def test_the_log_probabilities_of_a_search_equal_a_teacher_forced_pass(name):
    model = made(name)
    prompts, sources = asked(model)
    sampling = SamplingConfig(0, max_new_tokens=10, num_beams=4)
    for index, completion in enumerate(generate(model, prompts, sampling, STOPS, [0] * 6, sources=sources)):
        tokens = torch.tensor([prompts[index] + completion.tokens])
        given = (tokens[:, :-1],) if sources is None else (torch.tensor([sources[index]]), tokens[:, :-1])
        log_probs = model(*given).log_softmax(-1)[0, len(prompts[index]) - 1 :]
        expected = log_probs.gather(1, tokens[0, len(prompts[index]) :, None]).squeeze(1)
        torch.testing.assert_close(torch.tensor(completion.log_probs), expected, rtol=0, atol=2e-5)


def test_a_wider_search_finds_likelier_sequences():
    model = made("marian")
    prompts, sources = asked(model, 12)
    totals = []
    for num_beams in (1, 4):
        sampling = SamplingConfig(0, max_new_tokens=8, num_beams=num_beams, length_penalty=0.0)
        written = generate(model, prompts, sampling, set(), [0] * 12, sources=sources)
        totals.append(sum(sum(completion.log_probs) for completion in written))
    assert totals[1] > totals[0] + 0.1


@pytest.mark.parametrize("name", ["marian", "bart", "t5", "bloom", "mixtral"])
def test_no_row_depends_on_its_batch_mates(name):
    model = made(name)
    prompts, sources = asked(model, 7)
    for sampling in (SamplingConfig(max_new_tokens=12), SamplingConfig(0, max_new_tokens=8, num_beams=3)):
        together = generate(model, prompts, sampling, STOPS, list(range(7)), sources=sources)
        for index, completion in enumerate(together):
            source = None if sources is None else [sources[index]]
            [alone] = generate(model, [prompts[index]], sampling, STOPS, [index], sources=source)
            assert alone.tokens == completion.tokens
            assert alone.log_probs == pytest.approx(completion.log_probs, abs=2e-5)


def test_an_encoder_decoder_reads_its_sources_once():
    model = made("marian")
    calls = []
    model.encoder.register_forward_hook(lambda *_: calls.append("read"))
    generate(model, [[0]] * 3, SamplingConfig(0, max_new_tokens=9), set(), [0] * 3, sources=rows(3))
    assert calls == ["read"]


@pytest.mark.parametrize(
    ("name", "sources", "named"),
    [
        ("marian", None, "needs sources"),
        ("gpt2", [[7]], "no other model"),
        ("marian", [[7], [8]], "1 prompts"),
        ("marian", [[]], "1 prompts"),
    ],
)
def test_sources_that_do_not_fit_the_model_are_refused(name, sources, named):
    with pytest.raises(ValueError, match=named):
        generate(made(name), [[0]], SamplingConfig(), STOPS, [1], sources=sources)


@pytest.mark.parametrize("family", ["bert", "eurobert"])
def test_an_encoder_writes_nothing(family):
    model = build_model(ModelConfig(family=family, **SHAPE))
    with pytest.raises(ValueError, match="an encoder fills gaps"):
        generate(model, [[7]], SamplingConfig(), STOPS, [1])


def test_a_search_draws_nothing_and_streams_nothing():
    with pytest.raises(ConfigError, match="temperature=0"):
        SamplingConfig(temperature=0.5, num_beams=2)
    with pytest.raises(ValueError, match="use generate"):
        next(stream(made("gpt2"), [7], SamplingConfig(0, num_beams=2), STOPS, 1))
