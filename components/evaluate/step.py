"""Evaluation as a step: every stage on the same held-out text, in four waves of independent measurements.

    language   bits per byte of base, SFT and PPO on validation documents; of byte models on the same documents
    replies    loss of each on held-out dialogues; accuracy of the reward model on held-out pairs
    answers    each model answers the same held-out prompts with the same random numbers
    judging    the reward model scores all answers; KL of PPO to SFT on PPO's own answers

A wave's measurements run in parallel where there is room; a finished wave is kept in scratch. The artifact:

    scores.json    {"base", "sft", "ppo", "reward", "baselines"}, each a table of numbers
    samples.json   some prompts of every language with the replies of base, SFT and PPO and their scores
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from components.context import Context, Json, Metrics
from components.errors import Preempted
from components.evaluate.config import EvaluateConfig
from components.evaluate.inputs import STAGES, Inputs
from components.publish import publish_json

if TYPE_CHECKING:
    from components.evaluate.report import Answer

VERSION = 1

WAVES = {
    "language": [*(("bits_per_byte", stage) for stage in STAGES), ("byte_models", "baselines")],
    "replies": [("reward_accuracy", "reward"), *(("reply_loss", stage) for stage in STAGES)],
    "answers": [("answers", stage) for stage in STAGES],
    "judging": [("answer_kl", "ppo"), *(("score_answers", stage) for stage in STAGES)],
}


def evaluate(
    ctx: Context,
    config: EvaluateConfig,
    base: Path,
    sft: Path,
    reward: Path,
    policy: Path,
    tokens: Path,
    tokenizer: Path,
    documents: Path,
    instructions: Path,
    preferences: Path,
) -> Metrics:
    """Scores base, SFT, reward model and PPO.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        base: Artifact of `pretrain`.
        sft: Artifact of `sft`.
        reward: Artifact of `reward`.
        policy: Artifact of `ppo`.
        tokens: Artifact of `tokens`; its validation split is scored.
        tokenizer: Artifact of `tokenizer`.
        documents: The documents the tokens were made of, for the byte models.
        instructions: Artifact with `held_out.arrow` dialogues.
        preferences: Artifact with `held_out.arrow` pairs and `prompts_held_out.arrow`.

    Returns:
        At most 40 metrics: bits per byte (<stage>_bpb, unigram_bpb, order3_bpb), <stage>_reply_loss, reward_accuracy,
        scores with errors, score_gain, win_rate with its interval, kl_k1 and kl_k3 (nats per reply), distinct-n,
        length (tokens) and stop_rate.

    Raises:
        Preempted: The run was asked to stop: finished waves are kept.
        StepError: An input cannot be used.
    """
    from components.evaluate.report import make_metrics, make_samples, make_scores

    inputs = Inputs(base, sft, reward, policy, tokens, tokenizer, documents, instructions, preferences)
    results: dict[str, Json] = {}
    for number, name in enumerate(WAVES):
        ctx.progress(number, len(WAVES), "waves", name)
        if ctx.should_stop():
            raise Preempted(
                f"Evaluation stopped after {number} of {len(WAVES)} waves, which are kept.",
                fix="run again; only the missing waves are measured",
            )
        results |= _wave(ctx, config, inputs, name, results)
    ctx.progress(len(WAVES), len(WAVES), "waves")
    scores = make_scores(results)
    publish_json(ctx.output / "scores.json", scores)
    samples = make_samples(results, config.samples_per_language)
    publish_json(ctx.output / "samples.json", samples)
    for sample in samples:
        replies = "\n".join(f"  {stage}: {text}" for stage, text in cast(dict[str, str], sample["replies"]).items())
        ctx.text("sample", f"{sample['prompt']}\n{replies}", 0)
    return make_metrics(scores)


def _wave(
    ctx: Context, config: EvaluateConfig, inputs: Inputs, name: str, earlier: Mapping[str, Json]
) -> dict[str, Json]:
    """Measures one wave, or takes it from scratch."""
    from components.evaluate.measures import Work, run
    from components.evaluate.report import answers_of

    kept = ctx.scratch / f"{name}.json"
    if kept.exists():
        return cast(dict[str, Json], json.loads(kept.read_text(encoding="utf-8")))
    answers: dict[str, list[Answer]] = {}
    if name == "judging":
        answers = {stage: answers_of(earlier, stage) for stage in STAGES}
    seed = ctx.seed("answers")
    works = [Work(measure, stage, inputs, config, seed, answers) for measure, stage in WAVES[name]]
    values = ctx.map(run, works)
    results = {f"{work.measure}/{work.stage}": value for work, value in zip(works, values, strict=True)}
    publish_json(kept, results)
    return results
