"""Out of single measurements the table of scores, the flat metrics for tracking, and replies side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from components.context import Json, Metrics
from components.evaluate.inputs import STAGES
from components.evaluate.statistics import mean, standard_error, wilson_interval, win_rate
from components.evaluate.text_metrics import distinct

Results: TypeAlias = Mapping[str, Json]
Answer: TypeAlias = Mapping[str, Json]


def answers_of(results: Results, stage: str) -> list[Answer]:
    """The answers of a model, in the order of the prompts."""
    return cast(list[Answer], results[f"answers/{stage}"])


def make_scores(results: Results) -> dict[str, dict[str, Json]]:
    """Puts the measurements together.

    Args:
        results: What `measures` returned, under "<measure>/<stage>".

    Returns:
        Tables "base", "sft", "ppo", "reward" and "baselines".
    """
    scores = {stage: _stage_scores(results, stage) for stage in STAGES}
    scores["ppo"] |= _against_sft(results)
    scores["reward"] = cast(dict[str, Json], results["reward_accuracy/reward"])
    scores["baselines"] = cast(dict[str, Json], results["byte_models/baselines"])
    return scores


def make_metrics(scores: Mapping[str, Mapping[str, Json]]) -> Metrics:
    """The scores worth tracking, under flat names."""
    metrics = {f"{name}_bpb": value for name, value in scores["baselines"].items() if not name.endswith("_bytes")}
    for stage in STAGES:
        metrics |= {f"{stage}_{name}": scores[stage][name] for name in ("bpb", "reply_loss")}
    for stage in ("sft", "ppo"):
        names = ("score", "score_error", "distinct_1", "distinct_2", "length", "stop_rate")
        metrics |= {f"{stage}_{name}": scores[stage][name] for name in names}
    metrics |= {name: scores["ppo"][name] for name in _AGAINST_SFT}
    metrics |= {f"reward_{name}": scores["reward"][name] for name in ("accuracy", "error", "pairs")}
    return {name: float(cast(float, value)) for name, value in metrics.items()}


def make_samples(results: Results, per_language: int) -> list[dict[str, Json]]:
    """The first prompts of each language with the reply and score of every model."""
    taken: dict[str, int] = {}
    rows: list[dict[str, Json]] = []
    for index, answer in enumerate(answers_of(results, STAGES[0])):
        lang = str(answer["lang"])
        taken[lang] = taken.get(lang, 0) + 1
        if taken[lang] > per_language:
            continue
        replies: dict[str, Json] = {stage: answers_of(results, stage)[index]["text"] for stage in STAGES}
        scores: dict[str, Json] = {stage: round(_scores_of(results, stage)[index], 4) for stage in STAGES}
        prompt = {name: answer[name] for name in ("id", "lang", "source", "prompt")}
        rows.append({**prompt, "replies": replies, "scores": scores})
    return sorted(rows, key=lambda row: (str(row["lang"]), str(row["id"])))


_AGAINST_SFT = (
    "score_gain",
    "score_gain_error",
    "win_rate",
    "win_rate_low",
    "win_rate_high",
    "kl_k1",
    "kl_k1_error",
    "kl_k3",
    "kl_k3_error",
)


def _scores_of(results: Results, stage: str) -> list[float]:
    return cast(list[float], results[f"score_answers/{stage}"])


def _stage_scores(results: Results, stage: str) -> dict[str, Json]:
    answers, scores = answers_of(results, stage), _scores_of(results, stage)
    replies = cast(dict[str, Json], results[f"reply_loss/{stage}"])
    texts = [str(answer["text"]) for answer in answers]
    return {
        "bpb": results[f"bits_per_byte/{stage}"],
        "reply_loss": replies["loss"],
        "score": mean(scores),
        "score_error": standard_error(scores),
        "score_by_language": _by_language(answers, scores),
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
        "length": mean([float(len(cast(Sequence[Json], answer["tokens"]))) for answer in answers]),
        "stop_rate": mean([float(bool(answer["finished"])) for answer in answers]),
        "prompts": len(answers),
    }


def _by_language(answers: Sequence[Answer], scores: Sequence[float]) -> dict[str, Json]:
    groups: dict[str, list[float]] = {}
    for answer, score in zip(answers, scores, strict=True):
        groups.setdefault(str(answer["lang"]), []).append(score)
    return {
        lang: {"score": mean(group), "error": standard_error(group), "prompts": len(group)}
        for lang, group in sorted(groups.items())
    }


def _against_sft(results: Results) -> dict[str, Json]:
    """PPO against SFT on the same prompts: gain and win rate by the judge, and what it cost in KL."""
    ours, theirs = _scores_of(results, "ppo"), _scores_of(results, "sft")
    gains = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    share = win_rate(ours, theirs)
    low, high = wilson_interval(share, len(gains))
    kl = cast(dict[str, list[float]], results["answer_kl/ppo"])
    values = (
        mean(gains),
        standard_error(gains),
        share,
        low,
        high,
        mean(kl["k1"]),
        standard_error(kl["k1"]),
        mean(kl["k3"]),
        standard_error(kl["k3"]),
    )
    return dict(zip(_AGAINST_SFT, values, strict=True))
