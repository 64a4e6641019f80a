"""The classifier's head, and scalar heads on every decoder."""

from __future__ import annotations

import pytest
import torch

from components.model.config import ModelConfig
from components.model.heads import ClassifierModel, ScalarModel
from components.model.transformer import build_model

SHAPE = {"vocab_size": 60, "dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "ffn_dim": 48}


def draw(*shape, seed=5):
    return torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(seed))


def make(**changes):
    return build_model(ModelConfig(**SHAPE, **changes), torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "changes", [{}, {"family": "gpt2"}, {"family": "gpt2", "positions": "alibi"}, {"num_experts": 4}]
)
def test_a_scalar_model_reads_with_the_backbone_of_any_decoder(changes):
    model, tokens = make(**changes), draw(2, 9)
    scalar = ScalarModel.from_transformer(model, torch.Generator().manual_seed(1))
    expected = (model.hidden(tokens) @ scalar.score.weight.T).squeeze(-1)
    torch.testing.assert_close(scalar(tokens), expected, rtol=0, atol=1e-6)


def test_a_classifier_reads_its_first_token_through_a_pooler():
    model, tokens = make(family="bert"), draw(3, 9)
    classifier = ClassifierModel.from_transformer(model, 4, torch.Generator().manual_seed(2)).eval()
    first = model.eval().hidden(tokens)[:, 0]
    pooled = torch.tanh(first @ classifier.pooler.weight.T + classifier.pooler.bias)
    expected = pooled @ classifier.classifier.weight.T + classifier.classifier.bias
    torch.testing.assert_close(classifier(tokens), expected, rtol=0, atol=1e-5)


def test_a_classifier_on_a_eurobert_reads_the_mean_of_its_tokens():
    model, tokens = make(family="eurobert"), draw(3, 9)
    classifier = ClassifierModel.from_transformer(model, 4, torch.Generator().manual_seed(2)).eval()
    mean = model.eval().hidden(tokens).mean(1)
    pooled = torch.nn.functional.gelu(mean @ classifier.pooler.weight.T + classifier.pooler.bias)
    expected = pooled @ classifier.classifier.weight.T + classifier.classifier.bias
    torch.testing.assert_close(classifier(tokens), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "eurobert"])
def test_padding_of_a_text_changes_no_label(family):
    classifier, tokens = ClassifierModel(ModelConfig(**SHAPE, family=family), 3).eval(), draw(2, 7)
    padded = torch.cat([tokens, draw(2, 4, seed=8)], dim=1)
    segments = torch.tensor([[0] * 7 + [-1] * 4] * 2)
    torch.testing.assert_close(classifier(padded, segments_BT=segments), classifier(tokens), rtol=0, atol=1e-5)
    assert (classifier(padded) - classifier(tokens)).abs().max() > 1e-5


def test_a_classifier_learns_every_weight():
    classifier = ClassifierModel(ModelConfig(**SHAPE, family="bert", dropout=0.1), 3, torch.Generator().manual_seed(1))
    torch.nn.functional.cross_entropy(classifier(draw(4, 9)), torch.tensor([0, 1, 2, 0])).backward()
    assert all(parameter.grad.isfinite().all() for parameter in classifier.parameters())
    assert classifier.pooler.weight.grad.any()


def test_a_decoder_is_no_classifier():
    with pytest.raises(ValueError, match="family=gpt2"):
        ClassifierModel(ModelConfig(**SHAPE, family="gpt2"), 2)
