"""One rank of pretraining: builds model, engine and task, trains, and on rank 0 writes the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from components.context import Json, Rank, derive_seed
from components.model.config import ModelConfig, with_vocabulary
from components.model.external import ExternalModel
from components.model.external_flops import UnknownCost, external_flops_per_token
from components.model.flops import CONVENTIONS, flops_per_token
from components.model.masks import explain_attention
from components.model.transformer import Transformer, build_model
from components.pretrain.config import PretrainConfig
from components.pretrain.job import Job
from components.pretrain.masked import MaskedWords
from components.pretrain.private import PrivateRows, budget_of, privacy_record
from components.pretrain.sampling import Sampler
from components.pretrain.spans import Gaps
from components.pretrain.start import Trainable, load_start
from components.pretrain.task import NextToken
from components.publish import publish_json
from components.shards.loader import Loader, TokenRows
from components.shards.schedule import Schedule
from components.tokenizer.load import TextTokenizer
from components.training.engine import Engine, make_engine, publish_settings
from components.training.loop import TrainResult, train
from components.training.model_folder import ModelFolder
from components.training.precision import compute_dtype
from components.training.privacy import draw_secret
from components.training.stability import publish_quarantine


def train_rank(job: Job, rank: Rank) -> Json:
    """Trains on one rank of a `launch`; returns the step's metrics."""
    job = replace(job, config=replace(job.config, training=job.config.training.on_ranks(rank.world_size)))
    text = TextTokenizer.from_folder(job.tokenizer)
    torch.manual_seed(derive_seed(job.seeds["dropout"], rank.rank))
    model = _model(job, text)
    loader, validation = _open(job)
    sampler = Sampler(_sampled(job.config), model.config, text, rank, job.seeds["samples"])
    task = _task(job, _costs(model, job.config.length, rank), loader, validation, text, sampler)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    files = ModelFolder.of(model, model.config, job.tokenizer)
    origin = job.start if job.config.resume else None
    engine = _engine(job, model, rank, task)
    if rank.rank == 0 and job.config.document_mask and isinstance(model.config, ModelConfig):
        dtype = compute_dtype(job.config.training, engine.device)
        rank.channel.text("attention", explain_attention(model.config, engine.device, dtype), 0)
    try:
        result = train(rank, job.config.training, engine, task, job.scratch, files=files, origin=origin)
        weights = engine.full_weights()
        if sampler.step != result.steps:  # a checkpoint held the whole training: nothing was evaluated here
            sampler.write(engine, result.steps)
        if rank.rank == 0:
            _publish(job, rank, files, weights, result, sampler)
            publish_settings(engine, job.output)
    finally:
        task.close()
        engine.close()
    return {**_metrics(result, loader), **_private_metrics(job, task, loader, result), "parameters": num_parameters}


def schedule_of(config: PretrainConfig, seed: int) -> Schedule:
    """What the order of the rows depends on; `seed` is the step's seed "rows"."""
    return Schedule(seed, config.training.batch_size, config.length, config.mixture)


def _model(job: Job, tokenizer: TextTokenizer) -> Trainable:
    """The model to train: one that goes on, or one whose weights are drawn anew."""
    if job.start is not None:
        return load_start(job.start, job.config.objective)
    shape = with_vocabulary(job.config.model, tokenizer.vocab_size, "pretrain.model")
    return build_model(shape, torch.Generator().manual_seed(job.seeds["weights"]))


def _open(job: Job) -> tuple[Loader, TokenRows]:
    config = job.config
    loader = Loader.open(job.tokens, schedule_of(config, job.seeds["rows"]), job.rows)
    return loader, TokenRows.open(job.tokens / "val", config.length, config.eval_documents)


def _task(
    job: Job,
    flops: Mapping[str, float],
    loader: Loader,
    validation: TokenRows,
    tokenizer: TextTokenizer,
    sampler: Sampler,
) -> NextToken | MaskedWords | Gaps:
    config, write = job.config, sampler.write
    if config.training.privacy.on:
        budget = budget_of(config, loader.num_rows)
        return PrivateRows(config, loader, validation, write, budget, draw_secret(job.scratch))
    if config.objective == "masked":
        return MaskedWords(config, loader, validation, tokenizer, job.seeds["hidden"], write)
    if config.objective == "span":
        return Gaps(config, loader, validation, job.seeds["hidden"], write)
    return NextToken(config.training, loader, validation, write, config.loader_threads, config.document_mask, flops)


def _costs(model: Trainable, length: int, rank: Rank) -> dict[str, float]:
    """What training on a token costs, by convention; nothing, and a sentence that says why, where that is not known."""
    try:
        if isinstance(model, ExternalModel):
            return {name: external_flops_per_token(model.inner, length, name) for name in CONVENTIONS}
        return {name: flops_per_token(model.config, length, name) for name in CONVENTIONS}
    except UnknownCost as unknown:
        if rank.rank == 0:
            rank.channel.text("training", f"mfu is left out: the arithmetic of a token is not known, for {unknown}", 0)
        return {}


def _engine(job: Job, model: nn.Module, rank: Rank, task: NextToken | MaskedWords | Gaps) -> Engine:
    config = job.config.training
    if not isinstance(task, PrivateRows):
        return make_engine(model, config, rank)
    from components.training.private_engine import PrivateEngine

    assert isinstance(model, Transformer)
    return PrivateEngine(model, config, rank, task.budget.noise, task.secret)


def _private_metrics(
    job: Job, task: NextToken | MaskedWords | Gaps, loader: Loader, result: TrainResult
) -> dict[str, Json]:
    """What a private training came to; written beside the model too."""
    if not isinstance(task, PrivateRows):
        return {}
    record = privacy_record(job.config, task.budget, loader.num_rows, result.steps)
    publish_json(job.output / "privacy.json", record)
    return {"epsilon": record["epsilon"], "delta": record["delta"]}


def _sampled(config: PretrainConfig) -> PretrainConfig:
    """Only a model of the next token continues a text: others are given no beginnings."""
    return config if config.objective == "next-token" else replace(config, samples=())


def _publish(
    job: Job, rank: Rank, files: ModelFolder, weights: Mapping[str, Tensor], result: TrainResult, sampler: Sampler
) -> None:
    sentence = files.save(job.output / "model", weights)
    if sentence:
        rank.channel.text("model", sentence, result.steps)
    publish_json(job.output / "curve.json", result.curve)
    publish_quarantine(job.scratch, job.output)
    publish_json(job.output / "samples.json", {"step": result.steps, "samples": sampler.samples})
    order = schedule_of(job.config, job.seeds["rows"]).to_json()
    publish_json(job.output / "order.json", {**order, "steps": result.steps})


def _metrics(result: TrainResult, loader: Loader) -> dict[str, Json]:
    return {
        **{name: value for name, value in result.curve[-1].items() if name.startswith("val_")},
        "train_loss": result.loss,
        "steps": result.steps,
        "skipped": result.skipped,
        "goodput": result.goodput,
        "tokens": result.tokens,
        "epochs": result.tokens / (loader.num_rows * loader.length),
        "tokens_per_second": result.tokens_per_second,
    }
