"""How the policy does on prompts it never trained on: the curve of a PPO run, and replies before and after it.

Every evaluation answers the same prompts with the same random numbers, so that what changes between two rows of the
curve is the policy. Ranks share the prompts; the replica is unsharded, so they need not do equally many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.context import derive_seed
from components.model.config import SamplingConfig
from components.model.generate import Completion, generate
from components.model.language import LanguageModel
from components.posttrain.chat_format import STOP_IDS
from components.posttrain.prompts import Prompt
from components.posttrain.replies import Episode, reply_log_probs, score_replies
from components.ppo.config import PpoConfig
from components.ppo.roles import Roles
from components.tokenizer.load import TextTokenizer

SAMPLES_PER_LANGUAGE = 4


def reply_to(
    model: LanguageModel, prompts: Sequence[Prompt], config: PpoConfig, seed: int, roles: Roles
) -> tuple[list[Episode], list[Completion]]:
    """Answers prompts; a prompt always meets the same random numbers."""
    sampling = SamplingConfig(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    seeds = [derive_seed(seed, "held out", prompt.id) for prompt in prompts]
    ids = [prompt.ids for prompt in prompts]
    completions = generate(model, ids, sampling, STOP_IDS, seeds, roles.actor.device)
    episodes = [
        Episode(prompt.ids, completion.tokens, completion.finished)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return episodes, completions


def judge(roles: Roles, episodes: Sequence[Episode], config: PpoConfig) -> list[float]:
    """Normalised scores of episodes."""
    scale = roles.judge.scale
    raw = score_replies(roles.judge.model, episodes, config.training.micro_batch)
    return [(score - scale.mean) / scale.std for score in raw]


def evaluate(roles: Roles, prompts: Sequence[Prompt], config: PpoConfig, seed: int) -> dict[str, float]:
    """Scores the replica on held-out prompts. Collective.

    Returns:
        val_score with its standard error val_score_error, val_kl (nats per reply), val_stop_rate and val_length
        (tokens), the same on every rank.
    """
    rank, world_size = roles.actor.rank, roles.actor.world_size
    sums = [0.0] * 5
    mine = prompts[rank::world_size]
    if mine:
        episodes, completions = reply_to(roles.replica, mine, config, seed, roles)
        scores = judge(roles, episodes, config)
        reference = reply_log_probs(roles.reference, episodes, config.temperature, config.training.micro_batch)
        sums = [
            math.fsum(scores),
            math.fsum(score * score for score in scores),
            math.fsum(sum(c.log_probs) - float(r.sum()) for c, r in zip(completions, reference, strict=True)),
            float(sum(completion.finished for completion in completions)),
            float(sum(len(completion.tokens) for completion in completions)),
        ]
    score, square, kl, finished, length = (value / len(prompts) for value in roles.actor.sum_over_ranks(sums))
    error = math.sqrt(max(0.0, square - score * score) / max(1, len(prompts) - 1))
    return {
        "val_score": score,
        "val_score_error": error,
        "val_kl": kl,
        "val_stop_rate": finished,
        "val_length": length,
    }


def before_and_after(
    roles: Roles, prompts: Sequence[Prompt], config: PpoConfig, seed: int, tokenizer: TextTokenizer
) -> list[dict[str, object]]:
    """The same few prompts answered by the reference and by the replica, with scores. Call it on one rank."""
    per_language: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        per_language.setdefault(prompt.lang, []).append(prompt)
    chosen = [prompt for lang in sorted(per_language) for prompt in per_language[lang][:SAMPLES_PER_LANGUAGE]]
    old, _ = reply_to(roles.reference, chosen, config, seed, roles)
    new, _ = reply_to(roles.replica, chosen, config, seed, roles)
    rows = zip(chosen, old, judge(roles, old, config), new, judge(roles, new, config), strict=True)
    return [
        {
            "id": prompt.id,
            "lang": prompt.lang,
            "source": prompt.source,
            "prompt": prompt.text,
            "before": tokenizer.decode(before.reply),
            "score_before": round(score_before, 4),
            "reply": tokenizer.decode(after.reply),
            "score": round(score, 4),
        }
        for prompt, before, score_before, after, score in rows
    ]
