"""Document masking: in every family and with every position scheme, a packed row is its documents alone."""

from __future__ import annotations

import pytest
import torch

from components.model.cache import KVCache
from components.model.config import POSITIONS, ModelConfig
from components.model.masks import attention_backend, documents_of, explain_attention, plan_attention, source_mask
from components.model.transformer import build_model

SHAPE = {"vocab_size": 60, "dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "ffn_dim": 48}
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def make(family, positions, **changes):
    config = ModelConfig(
        **SHAPE,
        family=family,
        positions=positions,
        max_length=64,
        relative_buckets=8,
        relative_max_distance=12,
        **changes,
    )
    return build_model(config, torch.Generator().manual_seed(1))


def draw(*shape, seed=5):
    return torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(seed))


def gradients(model, *losses):
    model.zero_grad()
    sum(losses).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def same(one, other):
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-4, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_a_packed_row_is_its_documents_alone(family, positions):
    model = make(family, positions)
    lengths = (9, 4, 13)
    documents = [draw(1, length, seed=length) for length in lengths]
    packed = torch.cat(documents, dim=1)
    segments = torch.tensor([[0] * 9 + [1] * 4 + [2] * 13])
    targets = draw(1, 26, seed=3)
    alone = torch.cat([model(document) for document in documents], dim=1)
    assert (model(packed, segments_BT=segments) - alone).abs().max() < 1e-5
    assert (model(packed) - alone).abs().max() > 1e-4
    parts = [model(d, t) for d, t in zip(documents, targets.split(lengths, 1), strict=True)]
    same(gradients(model, model(packed, targets, segments_BT=segments)), gradients(model, *parts))


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_packed_row_of_pairs_is_its_pairs_alone(positions):
    model = make("encoder-decoder", positions)
    sources, targets = [draw(1, 8, seed=1), draw(1, 5, seed=2)], [draw(1, 6, seed=3), draw(1, 9, seed=4)]
    packed = (torch.cat(sources, 1), torch.cat(targets, 1))
    labels = packed[1].roll(1, 1)
    places = {
        "source_segments_BS": torch.tensor([[0] * 8 + [1] * 5]),
        "segments_BT": torch.tensor([[0] * 6 + [1] * 9]),
    }
    alone = torch.cat([model(source, target) for source, target in zip(sources, targets, strict=True)], dim=1)
    assert (model(*packed, **places) - alone).abs().max() < 1e-5
    parts = [model(s, t, y) for s, t, y in zip(sources, targets, labels.split((6, 9), 1), strict=True)]
    same(gradients(model, model(*packed, labels, **places)), gradients(model, *parts))


@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_of_a_source_changes_nothing(positions):
    model, source, target = make("encoder-decoder", positions), draw(1, 7), draw(1, 6, seed=8)
    padded = torch.cat([source, draw(1, 5, seed=9)], dim=1)
    segments = torch.tensor([[0] * 7 + [-1] * 5])
    assert (model(padded, target, source_segments_BS=segments) - model(source, target)).abs().max() < 1e-5
    assert (model(padded, target) - model(source, target)).abs().max() > 1e-4
    assert (model.encode(padded, segments)[:, :7] - model.encode(source)).abs().max() < 1e-5


def test_a_target_without_a_source_in_its_row_stays_finite():
    model, source, target = make("encoder-decoder", "sinusoidal"), draw(1, 4), draw(1, 6)
    segments = {"source_segments_BS": torch.zeros(1, 4).long(), "segments_BT": torch.tensor([[0, 0, 0, -1, -1, -1]])}
    assert model(source, target, **segments).isfinite().all()
    # Not every kernel of torch survives a row of nothing but -inf: there is none.
    assert source_mask(*segments.values(), torch.float32).isfinite().any(-1).all()


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_no_token_sees_a_later_one(family, positions):
    model, tokens = make(family, positions), draw(1, 12)
    changed = tokens.clone()
    changed[0, 8] += 1
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :8], after[:, :8], rtol=0, atol=1e-6)
    assert (before[:, 8:] - after[:, 8:]).abs().amax(-1).min() > 0


def test_a_decoder_sees_no_later_token_of_its_target_but_all_of_its_source():
    model, source, target = make("encoder-decoder", "sinusoidal"), draw(1, 9), draw(1, 8, seed=6)
    later, other = target.clone(), source.clone()
    later[0, 5] += 1
    other[0, -1] += 1
    torch.testing.assert_close(model(source, target)[:, :5], model(source, later)[:, :5], rtol=0, atol=1e-6)
    assert (model(source, target) - model(other, target)).abs().amax(-1).min() > 0


def test_a_bert_sees_both_directions():
    model, tokens = make("bert", "learned"), draw(1, 9)
    changed = tokens.clone()
    changed[0, -1] += 1
    assert (model(tokens) - model(changed)).abs().amax(-1).min() > 0


@pytest.mark.parametrize(
    ("changes", "device", "dtype", "backend", "said"),
    [
        ({}, CPU, torch.float32, "kernel", "our own kernel"),
        ({}, CPU, torch.bfloat16, "mask", "single precision only, not bfloat16"),
        ({"positions": "alibi"}, CPU, torch.float32, "mask", "alibi positions are added"),
        ({"head_width": 264}, CPU, torch.float32, "mask", "heads 264 wide"),
        ({}, torch.device("mps"), torch.float32, "mask", "no variable-length kernel for mps"),
        ({}, CUDA, torch.float32, "mask", "half precision only, not float32"),
        ({"positions": "alibi"}, CUDA, torch.bfloat16, "mask", "alibi positions are added"),
        ({"positions": "t5"}, CUDA, torch.bfloat16, "mask", "t5 positions are added"),
        ({"head_width": 12}, CUDA, torch.bfloat16, "mask", "heads 12 wide"),
        ({}, CUDA, torch.bfloat16, "varlen", "variable-length kernel"),
        ({"family": "bert"}, CUDA, torch.float16, "varlen", "variable-length kernel"),
    ],
)
def test_the_backend_is_chosen_by_a_table_and_explained(changes, device, dtype, backend, said, monkeypatch):
    monkeypatch.setattr("components.model.masks.why_not", lambda: "")
    config = ModelConfig(**{**SHAPE, **changes})
    assert attention_backend(config, device, dtype) == backend
    assert said in explain_attention(config, device, dtype)


def test_documents_end_to_end_are_the_runs_of_all_rows():
    documents = documents_of(torch.tensor([[3, 3, 3, 1, 1], [1, 1, 2, -1, -1]]), causal=True)
    assert documents.starts.tolist() == [0, 3, 5, 7, 8, 10]
    assert documents.starts.dtype == torch.int32
    assert documents.longest == 3


def one_by_one(queries, keys, values, starts, _, longest, __, *, scale, window_size, enable_gqa):
    """The variable-length kernel of torch, computed on a CPU: what its documentation says it does."""
    assert longest == starts.diff().max()
    parts = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        document = (part[start:end].transpose(0, 1) for part in (queries, keys, values))
        mixed = torch.nn.functional.scaled_dot_product_attention(
            *document, is_causal=window_size == (-1, 0), scale=scale, enable_gqa=enable_gqa
        )
        parts.append(mixed.transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_the_variable_length_path_gives_what_the_mask_gives(family, monkeypatch):
    """The kernel itself needs CUDA; what it is given, and what becomes of its answer, does not."""
    model, tokens = make(family, None, scale_attention=False), draw(2, 12)
    segments = torch.tensor([[0] * 5 + [1] * 7, [4] * 9 + [-1] * 3])
    expected = model(tokens, segments_BT=segments)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", one_by_one)
    monkeypatch.setattr("components.model.masks.attention_backend", lambda *_: "varlen")
    torch.testing.assert_close(model(tokens, segments_BT=segments), expected, rtol=0, atol=1e-5)


def test_segments_and_a_cache_exclude_each_other():
    config = ModelConfig(**SHAPE, positions="alibi")
    cache = KVCache(config, torch.zeros(1, dtype=torch.long), 8, torch.float32)
    with pytest.raises(ValueError, match="no cache"):
        plan_attention(config, draw(1, 4), torch.float32, None, torch.zeros(1, 4), cache)
    with pytest.raises(ValueError, match="distances"):
        plan_attention(config, draw(1, 4), torch.float32, torch.arange(4)[None], None, cache)
