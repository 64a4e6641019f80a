"""One measurement per call: module-level functions of picklable arguments, so that workers can share them out.

Each runs on one compute thread, loads what it needs, and returns plain values that fit into JSON.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from components.context import Json, derive_seed
from components.errors import StepError
from components.evaluate.bits_per_byte import byte_model_scores, model_bits_per_byte
from components.evaluate.config import EvaluateConfig
from components.evaluate.inputs import Inputs
from components.launching import device_of
from components.model.config import SamplingConfig
from components.model.generate import generate
from components.model.language import LanguageModel, load_language_model
from components.posttrain.chat_format import STOP_IDS, Message, render_prompt
from components.posttrain.judge import Judge, load_judge
from components.posttrain.kl import estimate_kl
from components.posttrain.prompts import Prompt, read_prompts, read_table
from components.posttrain.replies import Episode, batches_by_length, reply_log_probs, score_replies
from components.sft.data import lay_out, read_dialogues
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import END


@dataclass(frozen=True)
class Work:
    """One measurement to make.

    Attributes:
        measure: Name of a function of this module.
        stage: Which model it is about.
        inputs: The artifacts.
        config: Settings of the step.
        seed: Of sampling.
        answers: What models answered, for the measures that look at answers: stage to a list of answers.
    """

    measure: str
    stage: str
    inputs: Inputs
    config: EvaluateConfig
    seed: int
    answers: Mapping[str, Sequence[Mapping[str, Json]]] | None = None


def run(work: Work) -> Json:
    """Makes one measurement."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    return MEASURES[work.measure](work)


def bits_per_byte(work: Work) -> Json:
    """Validation bits per byte of a language model."""
    config, folder = work.config, work.inputs.model(work.stage)
    if (folder / "tokenizer.json").read_bytes() != (work.inputs.tokenizer / "tokenizer.json").read_bytes():
        raise StepError(
            f"The {work.stage} model was trained with another tokenizer than the validation tokens.",
            where=str(folder / "tokenizer.json"),
            fix="evaluate a model on tokens of its own tokenizer",
        )
    model = _load(folder)
    val = work.inputs.tokens / "val"
    bits, _ = model_bits_per_byte(
        model, val, config.length, config.val_documents, config.micro_batch, config.document_mask
    )
    return bits


def byte_models(work: Work) -> Json:
    """Bits per byte of the byte models on the same documents."""
    inputs, config = work.inputs, work.config
    scores = byte_model_scores(inputs.documents, inputs.tokens / "val", config.byte_order, config.val_documents)
    return cast(Json, scores)


@torch.no_grad()
def reply_loss(work: Work) -> Json:
    """Nats per assistant token on held-out dialogues, `<|end|>` included: what SFT reports as its validation loss."""
    config, folder = work.config, work.inputs.model(work.stage)
    model, tokenizer = _load(folder), TextTokenizer.from_folder(folder)
    device = next(model.parameters()).device
    path = work.inputs.instructions / "held_out.arrow"
    dialogues, _ = read_dialogues(path, tokenizer, config.length, config.dialogues)
    lengths = [len(dialogue.inputs) for dialogue in dialogues]
    nats = 0.0
    for batch in batches_by_length(lengths, config.micro_batch):
        padded = lay_out([[dialogues[index]] for index in batch], lengths[batch[0]])
        nats += float(model(padded["tokens_BT"].to(device), padded["targets_BT"].to(device)))
    count = sum(dialogue.num_scored for dialogue in dialogues)
    return {"loss": nats / count, "tokens": count, "dialogues": len(dialogues)}


def reward_accuracy(work: Work) -> Json:
    """Share of held-out pairs whose chosen side scores higher, in all and per source; a tie counts half."""
    config, folder = work.config, work.inputs.model("reward")
    judge, tokenizer = _load_judge(folder), TextTokenizer.from_folder(folder)
    rows = read_table(work.inputs.preferences / "held_out.arrow")[: config.pairs]
    longest = judge.model.config.max_length
    sources, sides = [], []
    for row in rows:
        pair = [_episode(tokenizer, row, side) for side in ("chosen", "rejected")]
        if max(side.num_tokens for side in pair) <= longest:
            sources.append(str(row["source"]))
            sides += pair
    if not sources:
        raise StepError(
            f"None of {len(rows)} held-out pairs fits into {longest} tokens.",
            where=str(work.inputs.preferences / "held_out.arrow"),
            fix="give shorter pairs, or a reward model that reads more",
        )
    scores = score_replies(judge.model, sides, config.micro_batch)
    points: dict[str, list[float]] = defaultdict(list)
    for source, chosen, rejected in zip(sources, scores[::2], scores[1::2], strict=True):
        points[source].append(1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0)
    return {
        **_share([point for values in points.values() for point in values]),
        "sources": {source: _share(values) for source, values in sorted(points.items())},
    }


def answers(work: Work) -> Json:
    """What a model answers to the held-out prompts, each with its prompt.

    Every model meets the same random numbers for the same prompt.
    """
    config, folder = work.config, work.inputs.model(work.stage)
    model, tokenizer = _load(folder), TextTokenizer.from_folder(folder)
    prompts = held_out_prompts(work.inputs, tokenizer, config, work.seed)
    sampling = SamplingConfig(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    seeds = [derive_seed(work.seed, "answer", prompt.id) for prompt in prompts]
    device = next(model.parameters()).device
    # Prompts of like length share a batch: padding is computed too.
    result: list[Json] = [None] * len(prompts)
    for batch in batches_by_length([len(prompt.ids) for prompt in prompts], 2 * config.micro_batch):
        ids = [prompts[index].ids for index in batch]
        completions = generate(model, ids, sampling, STOP_IDS, [seeds[index] for index in batch], device)
        for index, completion in zip(batch, completions, strict=True):
            prompt = prompts[index]
            result[index] = {
                "id": prompt.id,
                "lang": prompt.lang,
                "source": prompt.source,
                "prompt": prompt.text,
                "text": tokenizer.decode(completion.tokens),
                "tokens": list(completion.tokens),
                "finished": completion.finished,
            }
    return result


def score_answers(work: Work) -> Json:
    """The judge's normalised score of every answer of a model."""
    judge = _load_judge(work.inputs.model("reward"))
    raw = score_replies(judge.model, _episodes(work, work.stage), work.config.micro_batch)
    return [(score - judge.scale.mean) / judge.scale.std for score in raw]


def answer_kl(work: Work) -> Json:
    """Distance of a model from the SFT model on the model's own answers, nats per reply: k1 and k3, one per answer."""
    episodes, temperature = _episodes(work, work.stage), work.config.temperature
    ours, theirs = (
        reply_log_probs(_load(work.inputs.model(stage)), episodes, temperature, work.config.micro_batch)
        for stage in (work.stage, "sft")
    )
    return {
        name: [float(estimate_kl(mine, sft, name).sum()) for mine, sft in zip(ours, theirs, strict=True)]
        for name in ("k1", "k3")
    }


MEASURES = {
    measure.__name__: measure
    for measure in (bits_per_byte, byte_models, reply_loss, reward_accuracy, answers, score_answers, answer_kl)
}


def held_out_prompts(inputs: Inputs, tokenizer: TextTokenizer, config: EvaluateConfig, seed: int) -> list[Prompt]:
    """The prompts all models answer: a choice by hash, the same for every model, in the order of their ids."""
    path = inputs.preferences / "prompts_held_out.arrow"
    prompts, _ = read_prompts(path, tokenizer, config.max_prompt_tokens)
    chosen = sorted(prompts, key=lambda prompt: derive_seed(seed, "choice", prompt.id))[: config.prompts]
    return sorted(chosen, key=lambda prompt: prompt.id)


def _episodes(work: Work, stage: str) -> list[Episode]:
    tokenizer = TextTokenizer.from_folder(work.inputs.model(stage))
    prompts = held_out_prompts(work.inputs, tokenizer, work.config, work.seed)
    given = (work.answers or {})[stage]
    return [
        Episode(prompt.ids, cast(list[int], answer["tokens"]), bool(answer["finished"]))
        for prompt, answer in zip(prompts, given, strict=True)
    ]


def _episode(tokenizer: TextTokenizer, row: Mapping[str, object], side: str) -> Episode:
    prompt = render_prompt(tokenizer, cast(Sequence[Message], row["prompt"]))
    return Episode(prompt, [*tokenizer.encode(str(row[side])), END])


def _share(points: Sequence[float]) -> dict[str, Json]:
    share = math.fsum(points) / len(points)
    return {"accuracy": share, "error": math.sqrt(share * (1 - share) / len(points)), "pairs": len(points)}


def _load(folder: Path) -> LanguageModel:
    model: LanguageModel = load_language_model(folder).eval().requires_grad_(False).to(device_of(0))
    return model


def _load_judge(folder: Path) -> Judge:
    judge = load_judge(folder)
    judge.model.to(device_of(0))
    return judge
