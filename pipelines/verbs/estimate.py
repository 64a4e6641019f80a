"""`headwater estimate`: how large the models of a recipe are, what training them takes, whether it fits. Runs nothing.

Everything comes from the settings, but for the tokens per second: those are guessed from the newest trainings that the
store holds, by the ratio of the arithmetic of a token. Light on purpose: it answers where there is no torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from components.model.config import ModelConfig
from components.model.counting import num_active_parameters, num_parameters
from components.model.flops import flops_per_token
from components.training.config import TrainingConfig
from components.training.estimate import BAND, GIB, Memory, estimate_memory
from components.training.room import Device, check_room, device_of_ranks, fits, needed, num_sharing
from pipelines.config import Settings, load_settings
from pipelines.engine.estimate import MEDIAN_OF, History
from pipelines.engine.step import Step
from pipelines.verbs.planning import open_store, pinned, steps_of

PARTS = ("weights", "gathered", "gradients", "optimizer", "buckets", "activations", "loss", "checkpoint", "runtime")
NOT_ESTIMATED = ("ppo",)
"""Steps that hold several models at once, some of them only to be asked."""


@dataclass(frozen=True)
class Training:
    """One training of a recipe: what is trained, how, and on how long sequences."""

    step: str
    model: ModelConfig
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
    base = settings.pretrain.model
    for step in steps_of(settings):
        found = _training(step, base)
        if found is not None and step.name not in NOT_ESTIMATED:
            vocab_size = found.model.vocab_size or settings.tokenizer.vocab_size
            yield dataclasses.replace(found, model=dataclasses.replace(found.model, vocab_size=vocab_size))


def _training(step: Step, base: ModelConfig) -> Training | None:
    values = {field.name: getattr(step.config, field.name) for field in dataclasses.fields(step.config)}
    training, model = values.get("training"), values.get("model", base)
    length = values.get("length", values.get("max_length", base.max_length))
    if not isinstance(training, TrainingConfig) or not isinstance(model, ModelConfig) or not isinstance(length, int):
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
    return statistics.median(rates[:MEDIAN_OF]) / num_parameters(training.model) if rates else None


def record_of(training: Training, kind: str, device: Device | None, rate: float | None) -> dict[str, object]:
    """One training for programs; memory in bytes of the fullest rank."""
    model, config, length = training.model, training.config, training.length
    memory = estimate_memory(model, config, length, kind == "cpu")
    return {
        "step": training.step,
        "family": model.family,
        "ranks": config.ranks,
        "micro_batch": config.micro_batch,
        "zero_stage": config.zero_stage if config.engine == "deepspeed" else None,
        "length": length,
        "parameters": num_parameters(model),
        "active_parameters": num_active_parameters(model),
        "flops_per_token_palm": flops_per_token(model, length),
        "flops_per_token_causal": flops_per_token(model, length, "causal"),
        "memory_bytes": memory.device,
        "host_bytes": 0.0 if memory.on_cpu else memory.host,
        "parts": {name: getattr(memory, name) for name in PARTS},
        "needed_bytes": None if device is None else needed(memory, config, device),
        "fits": None if device is None else fits(memory, config, device),
        "tokens_per_second": rate,
    }


def lines(
    trainings: Sequence[Training], records: Sequence[dict[str, object]], device: Device | None, kind: str
) -> list[str]:
    """The table for a person, what it is measured by, and the refusals."""
    head = ["step", "ranks", "parameters", "active", "FLOPs/token", "causal", "tokens/s", "GiB a rank", *PARTS]
    rows = [head]
    for training, record in zip(trainings, records, strict=True):
        memory = estimate_memory(training.model, training.config, training.length, kind == "cpu")
        rows.append([*_numbers(record), f"{memory.device / GIB:.2f}", *_parts(memory)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    told = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    told.append(f"{_told(device, kind)}; estimates are within {BAND:.0%} of what was measured on CPUs.")
    for training in trainings:
        told += _refusal(training, device)
    return told


def _numbers(record: dict[str, object]) -> list[str]:
    rate = record["tokens_per_second"]
    counts = [record[name] for name in ("parameters", "active_parameters")]
    flops = [record[name] for name in ("flops_per_token_palm", "flops_per_token_causal")]
    return [
        str(record["step"]),
        str(record["ranks"]),
        *(f"{count:,}" for count in counts),
        *(f"{value:.3g}" for value in flops),
        f"~{rate:.0f}" if isinstance(rate, float) else "-",
    ]


def _parts(memory: Memory) -> list[str]:
    return [f"{getattr(memory, name) / GIB:.2f}" for name in PARTS]


def _told(device: Device | None, kind: str) -> str:
    if device is None:
        return f"memory of the {kind} devices is not known here"
    return f"{device.name} has {device.memory_bytes / GIB:.1f} GiB" + (" for all its ranks" if kind == "cpu" else "")


def _refusal(training: Training, device: Device | None) -> list[str]:
    from components.errors import MachineError

    try:
        check_room(training.model, training.config, training.length, device, f"{training.step}.training")
    except MachineError as error:
        sharing = "" if device is None or num_sharing(training.config, device) < 2 else " (ranks share the machine)"
        return [f"{training.step} would be refused{sharing}: {error.what}", f"  fix: {error.fix}"]
    return []
