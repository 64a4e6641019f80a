"""`headwater estimate`: how large the models of a recipe are, what training them takes, whether it fits. Runs nothing.

Everything comes from the settings, but for the tokens per second: those are guessed from the newest trainings that the
store holds, by the ratio of the arithmetic of a token. Light on purpose: it answers where there is no torch. Of a model
of transformers to go on from (`pretrain.init`), which is built without memory to be counted, sizes and arithmetic are
told, and no memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from components.model.config import ModelConfig
from components.model.counting import num_active_parameters, num_parameters
from components.model.flops import CONVENTIONS, flops_per_token
from components.pretrain.config import PretrainConfig
from components.training.config import TrainingConfig
from components.training.estimate import BAND, GIB, estimate_memory
from components.training.room import Device, check_room, device_of_ranks, fits, needed, num_sharing
from pipelines.config import Settings, load_settings
from pipelines.engine.estimate import MEDIAN_OF, History
from pipelines.engine.step import Step
from pipelines.verbs.planning import open_store, pinned, steps_of

if TYPE_CHECKING:
    from components.model.external import ExternalConfig

AnyConfig: TypeAlias = "ModelConfig | ExternalConfig"
PARTS = ("weights", "gathered", "gradients", "optimizer", "buckets", "activations", "loss", "checkpoint", "runtime")
MEMORY = ("memory_bytes", "host_bytes", "parts", "needed_bytes", "fits")
NOT_ESTIMATED = ("ppo",)
"""Steps that hold several models at once, some of them only to be asked."""


@dataclass(frozen=True)
class Training:
    """One training of a recipe: what is trained, how, and on how long sequences."""

    step: str
    model: AnyConfig
    config: TrainingConfig
    length: int


def estimate(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints the table, and for what does not fit the sentence with which it would be refused."""
    settings = load_settings(overrides)
    kind = "cuda" if settings.cluster.rank_gpus else "cpu"
    device = device_of_ranks(kind)
    history = History(open_store(settings))
    trainings = list(trainings_of(pinned(settings)))
    records = [record_of(training, kind, device, guess(history, training)) for training in trainings]
    if options.json:
        print(json.dumps({"device": _told(device, kind), "steps": records}, ensure_ascii=False))
        return 0
    print("\n".join(lines(trainings, records, device, kind)))
    return 0


def trainings_of(settings: Settings) -> Iterator[Training]:
    """The trainings among the steps of the recipe that the settings name."""
    base = _base(settings.pretrain)
    for step in steps_of(settings):
        found = _training(step, base)
        if found is not None and step.name not in NOT_ESTIMATED:
            model = found.model
            vocab_size = model.vocab_size or settings.tokenizer.vocab_size
            yield dataclasses.replace(found, model=dataclasses.replace(model, vocab_size=vocab_size))


def _base(config: PretrainConfig) -> AnyConfig:
    """The shape of the model that pretraining makes, or goes on from."""
    if config.init is None:
        return config.model
    from components.model.language import read_any_config

    return read_any_config(Path(config.init))


def _training(step: Step, base: AnyConfig) -> Training | None:
    values = {field.name: getattr(step.config, field.name) for field in dataclasses.fields(step.config)}
    training, model = values.get("training"), base if values.get("init") else values.get("model", base)
    length = values.get("length", values.get("max_length", base.max_length))
    if not isinstance(training, TrainingConfig) or not isinstance(length, int):
        return None
    if not isinstance(model, ModelConfig) and model is not base:
        return None
    return Training(step.name, model, training, min(length, model.max_length))


def guess(history: History, training: Training) -> float | None:
    """Tokens per second of all ranks, from the newest trainings of this step on as many ranks; None without any."""
    rates = [
        manifest.metrics["tokens_per_second"] * manifest.metrics["parameters"]
        for manifest in history.of(training.step)
        if manifest.origin is None
        and {"tokens_per_second", "parameters"} <= manifest.metrics.keys()
        and manifest.resources.get("ranks") == training.config.ranks
    ]
    if not rates or not isinstance(training.model, ModelConfig):
        return None
    return statistics.median(rates[:MEDIAN_OF]) / num_parameters(training.model)


def record_of(training: Training, kind: str, device: Device | None, rate: float | None) -> dict[str, object]:
    """One training for programs; memory in bytes of the fullest rank. What is not known is None."""
    model, config = training.model, training.config
    return {
        "step": training.step,
        "family": model.family if isinstance(model, ModelConfig) else model.model_type,
        "ranks": config.ranks,
        "micro_batch": config.micro_batch,
        "zero_stage": config.zero_stage if config.engine == "deepspeed" else None,
        "length": training.length,
        **(
            _arithmetic(model, training.length) if isinstance(model, ModelConfig) else _external(model, training.length)
        ),
        **(_memory(model, training, kind, device) if isinstance(model, ModelConfig) else dict.fromkeys(MEMORY)),
        "tokens_per_second": rate,
    }


def _arithmetic(model: ModelConfig, length: int) -> dict[str, object]:
    return {
        "parameters": num_parameters(model),
        "active_parameters": num_active_parameters(model),
        **{f"flops_per_token_{name}": flops_per_token(model, length, name) for name in CONVENTIONS},
    }


def _external(model: ExternalConfig, length: int) -> dict[str, object]:
    """The same of a model of transformers, and why FLOPs are not known where they are not."""
    from components.model.external_flops import UnknownCost, external_flops_per_token
    from components.model.external_folder import outline

    inner = outline(model)
    flops: dict[str, object] = dict.fromkeys(f"flops_per_token_{name}" for name in CONVENTIONS)
    try:
        flops = {f"flops_per_token_{name}": external_flops_per_token(inner, length, name) for name in CONVENTIONS}
    except UnknownCost as unknown:
        flops["unknown"] = str(unknown)
    return {"parameters": sum(one.numel() for one in inner.parameters()), "active_parameters": None, **flops}


def _memory(model: ModelConfig, training: Training, kind: str, device: Device | None) -> dict[str, object]:
    memory = estimate_memory(model, training.config, training.length, kind == "cpu")
    values = (
        memory.device,
        0.0 if memory.on_cpu else memory.host,
        {name: getattr(memory, name) for name in PARTS},
        None if device is None else needed(memory, training.config, device),
        None if device is None else fits(memory, training.config, device),
    )
    return dict(zip(MEMORY, values, strict=True))


def lines(
    trainings: Sequence[Training], records: Sequence[dict[str, object]], device: Device | None, kind: str
) -> list[str]:
    """The table for a person, what it is measured by, and the refusals."""
    head = ["step", "ranks", "parameters", "active", "FLOPs/token", "causal", "tokens/s", "GiB a rank", *PARTS]
    rows = [head, *(_cells(record) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    told = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    told.append(f"{_told(device, kind)}; estimates are within {BAND:.0%} of what was measured on CPUs.")
    told += [f"{one['step']}: FLOPs are not known, for {one['unknown']}." for one in records if "unknown" in one]
    for training in trainings:
        told += _refusal(training, device)
    return told


def _cells(record: dict[str, object]) -> list[str]:
    rate, memory, parts = record["tokens_per_second"], record["memory_bytes"], record["parts"]
    counts = [record[name] for name in ("parameters", "active_parameters")]
    flops = [record[f"flops_per_token_{name}"] for name in CONVENTIONS]
    sizes = [memory, *(parts.values() if isinstance(parts, dict) else [None] * len(PARTS))]
    return [
        str(record["step"]),
        str(record["ranks"]),
        *("-" if count is None else f"{count:,}" for count in counts),
        *("-" if value is None else f"{value:.3g}" for value in flops),
        f"~{rate:.0f}" if isinstance(rate, float) else "-",
        *(f"{size / GIB:.2f}" if isinstance(size, int | float) else "-" for size in sizes),
    ]


def _told(device: Device | None, kind: str) -> str:
    if device is None:
        return f"memory of the {kind} devices is not known here"
    return f"{device.name} has {device.memory_bytes / GIB:.1f} GiB" + (" for all its ranks" if kind == "cpu" else "")


def _refusal(training: Training, device: Device | None) -> list[str]:
    from components.errors import MachineError

    if not isinstance(training.model, ModelConfig):
        return []
    try:
        check_room(training.model, training.config, training.length, device, f"{training.step}.training")
    except MachineError as error:
        sharing = "" if device is None or num_sharing(training.config, device) < 2 else " (ranks share the machine)"
        return [f"{training.step} would be refused{sharing}: {error.what}", f"  fix: {error.fix}"]
    return []
