"""What the preferences step writes, and the sample's way to it."""

from __future__ import annotations

from dataclasses import dataclass

from components.posttrain.dialogues import Preference, Prompt, hash_order
from components.preferences.config import PreferencesConfig
from components.preferences.labels import labelled_pairs
from components.preferences.openers import sample_prompts
from components.preferences.ratings import rated_pairs
from components.sample.review_requests import usable_review
from components.sample.texts import conversations, held_out, reviews


@dataclass(frozen=True)
class Dataset:
    """Pairs for the reward model and prompts for PPO, each with a held-out part."""

    train: list[Preference]
    held_out: list[Preference]
    prompts_train: list[Prompt]
    prompts_held_out: list[Prompt]


def sample_dataset(config: PreferencesConfig) -> Dataset:
    """Pairs from ratings and labels; `max_pairs_per_source` limits those to train on, in the order of their hash."""
    spoken = conversations()
    written = [review for review in reviews() if usable_review(review.text, config.max_review_chars)]
    parts = []
    for part in (False, True):
        rated = rated_pairs([row for row in spoken if held_out(row.id) == part], config)
        labelled = labelled_pairs([row for row in written if held_out(row.id) == part])
        parts.append((rated, labelled))
    most = config.max_pairs_per_source
    train = [pair for pairs in parts[0] for pair in sorted(pairs, key=lambda pair: hash_order(pair.id))[:most]]
    return Dataset(train, [*parts[1][0], *parts[1][1]], *sample_prompts(spoken, config))
