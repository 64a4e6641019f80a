"""Private steps: rows clipped as a plain loop over single rows clips them, noise of the size that was asked for."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from components.context import local_context
from components.errors import ConfigError, StepError
from components.model.config import ModelConfig
from components.model.loss import IGNORED
from components.model.transformer import Transformer
from components.training.config import TrainingConfig
from components.training.engine import make_engine
from components.training.privacy import Budget, PrivacyConfig, draw_secret, make_budget
from components.training.private_engine import PrivateEngine
from tests.components.training.small import CONFIG, LENGTH, MODELS, tokens_of

ROWS, MAX_NORM = 8, 0.5
SHAPES = {
    **MODELS,
    "untied, normed queries": dataclasses.replace(MODELS["llama"], tie_embeddings=False, qk_norm=True),
}
PRIVATE = dataclasses.replace(CONFIG, clip_grad=0.0, privacy=PrivacyConfig(on=True, max_norm=MAX_NORM))


@pytest.fixture
def rank(tmp_path):
    found = []
    local_context("private", tmp_path).launch(lambda one: found.append(one), 1)
    return found[0]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of which one is half unscored: their gradients differ in length."""
    rows = tokens_of(0, ROWS)
    targets = rows[:, 1:].clone()
    targets[3, LENGTH // 2 :] = IGNORED
    return rows[:, :-1], targets


def make(shape: ModelConfig, rank, noise: float = 0.0) -> tuple[Transformer, PrivateEngine]:
    model = Transformer(shape, torch.Generator().manual_seed(5))
    return model, PrivateEngine(model, PRIVATE, rank, noise, secret=9)


def clipped_sum(shape: ModelConfig, max_norm: float) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Row by row with plain autograd: what the engine must come to."""
    model = Transformer(shape, torch.Generator().manual_seed(5))
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    norms = []
    for tokens, targets in zip(*batch(), strict=True):
        model.zero_grad()
        (model(tokens[None], targets[None]) / LENGTH).backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
        norms.append(norm)
        for name, p in model.named_parameters():
            total[name] += p.grad * min(1.0, max_norm / norm)
    return {name: one / ROWS for name, one in total.items()}, norms


def gradient_of(engine: PrivateEngine, model: Transformer, micro_batch: int) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}

    def look(norm: float) -> bool:
        found.update({name: p.grad.clone() for name, p in model.named_parameters()})
        return False

    model.train()
    tokens, targets = batch()
    for first in range(0, ROWS, micro_batch):
        rows = slice(first, first + micro_batch)
        engine.backward(engine.module(tokens[rows], targets[rows]) / (ROWS * LENGTH))
    engine.step(1e-3, look)
    return found


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("micro_batch", [8, 3, 1])
def test_without_noise_a_step_is_the_sum_of_rows_clipped_one_by_one(shape, micro_batch, rank):
    model, engine = make(shape, rank)
    expected, norms = clipped_sum(shape, MAX_NORM)
    assert min(norms) > MAX_NORM or max(norms) > MAX_NORM
    found = gradient_of(engine, model, micro_batch)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7, msg=lambda text, name=name: name + text)


def test_rows_below_the_norm_keep_their_gradient(rank, monkeypatch):
    shape = MODELS["llama"]
    model = Transformer(shape, torch.Generator().manual_seed(5))
    loose = dataclasses.replace(PRIVATE, privacy=PrivacyConfig(on=True, max_norm=1e6))
    engine = PrivateEngine(model, loose, rank, 0.0, secret=9)
    found = gradient_of(engine, model, 4)
    plain = Transformer(shape, torch.Generator().manual_seed(5))
    tokens, targets = batch()
    (plain(tokens, targets) / (ROWS * LENGTH)).backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-7)


def test_noise_has_the_size_that_epsilon_was_reckoned_with(rank):
    model, engine = make(MODELS["llama"], rank, noise=2.0)
    silent, mute = make(MODELS["llama"], rank, noise=0.0)
    loud, quiet = gradient_of(engine, model, 4), gradient_of(mute, silent, 4)
    noise = torch.cat([(loud[name] - quiet[name]).flatten() for name in loud]) * ROWS
    assert float(noise.std()) == pytest.approx(2.0 * MAX_NORM, rel=0.05)
    assert abs(float(noise.mean())) < 0.05


def test_noise_is_new_in_every_step_and_goes_on_after_a_checkpoint(rank):
    model, engine = make(MODELS["llama"], rank, noise=1.0)
    first, second = gradient_of(engine, model, 4), gradient_of(engine, model, 4)
    name = "backbone.embed.weight"
    assert not torch.equal(first[name], second[name])
    other_model, other = make(MODELS["llama"], rank, noise=1.0)
    gradient_of(other, other_model, 4)
    saved = other.optimizer_state()
    resumed_model, resumed = make(MODELS["llama"], rank, noise=1.0)
    resumed.load_optimizer_state(saved)
    assert torch.equal(gradient_of(resumed, resumed_model, 4)[name], second[name])


def test_a_step_without_rows_is_noise_alone(rank):
    _model, engine = make(MODELS["llama"], rank, noise=1.0)
    before = engine.full_weights()
    report = engine.step(1e-3)
    assert report.grad_norm > 0
    assert not report.skipped
    assert any(not torch.equal(before[name], one) for name, one in engine.full_weights().items())


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_the_noise_that_is_found_keeps_the_epsilon_that_was_asked_for(accountant):
    budget = make_budget(PrivacyConfig(True, epsilon=3.0, delta=1e-5, accountant=accountant), 10, 1000, 200)
    assert 2.5 < budget.spent(200) <= 3.0
    assert budget.spent(100) < budget.spent(200)
    assert budget.spent(0) == 0
    assert math.isinf(Budget(0.0, 0.01, 1e-5, accountant).spent(1))


def test_epsilon_is_that_of_the_gaussian_mechanism_where_all_rows_are_in_a_step():
    """One step over everything: delta(eps) of the Gaussian mechanism has a closed form (1805.06530)."""
    noise, epsilon = 2.0, Budget(2.0, 1.0, 1e-5, "prv").spent(1)

    def normal(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    delta = normal(0.5 / noise - epsilon * noise) - math.exp(epsilon) * normal(-0.5 / noise - epsilon * noise)
    assert delta <= 1e-5
    assert delta > 0.8e-5


@pytest.mark.parametrize(("rows", "delta", "part"), [(5, 1e-6, "draws 10 of 5"), (1000, 0.01, "give away a whole row")])
def test_budgets_that_mean_nothing_are_refused(rows, delta, part):
    with pytest.raises(StepError, match=part):
        make_budget(PrivacyConfig(True, delta=delta), 10, rows, 5)


@pytest.mark.parametrize(
    "setting",
    [{"engine": "deepspeed"}, {"precision": "fp16"}, {"spike": "skip"}, {"compile": True}, {"recompute": "blocks"}],
)
def test_what_breaks_privacy_is_refused_by_the_config(setting):
    with pytest.raises(ConfigError, match=r"privacy\.on=true"):
        dataclasses.replace(PRIVATE, **setting)


def test_other_steps_refuse_private_training(rank):
    with pytest.raises(ConfigError, match="pretraining alone"):
        make_engine(Transformer(MODELS["llama"]), PRIVATE, rank)


def test_the_secret_is_made_once_and_differs_between_trainings(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert draw_secret(tmp_path / "a") == draw_secret(tmp_path / "a") != draw_secret(tmp_path / "b")


def test_private_settings_are_off_by_default():
    assert not TrainingConfig().privacy.on
