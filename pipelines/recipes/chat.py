"""From web pages to an aligned model that answers: the main recipe.

Two branches run beside the crawl: the dialogues for SFT and the preference pairs of the reward model are prepared while
pages are fetched. CPUs are what a step itself computes with; a step that launches ranks holds none, its ranks do.
What may take long is detached: on a cluster it goes on when the driver is gone.
"""

from __future__ import annotations

from components.augment.step import augment
from components.evaluate.step import evaluate
from components.instructions.step import instructions
from components.ppo.step import ppo
from components.preferences.step import preferences
from components.reward.step import reward
from components.sft.step import sft
from pipelines.config import Settings
from pipelines.engine.step import Artifact, Recipe
from pipelines.recipes.data import corpus
from pipelines.recipes.pretrain import pretrained
from pipelines.recipes.training import train_step


def chat(run: Recipe, settings: Settings) -> Artifact:
    """Declares the steps of the recipe; nothing runs here."""
    source = settings.source
    if source.kind == "sample":
        dialogues = run.step(instructions, settings.instructions)
        pairs = run.step(preferences, settings.preferences)
    else:
        dialogues_file = run.file(source.instructions or "", "instructions")
        pairs_file = run.file(source.preferences or "", "preferences")
        dialogues = run.step(instructions, settings.instructions, file=dialogues_file)
        pairs = run.step(preferences, settings.preferences, file=pairs_file)
    text = corpus(run, settings, dialogues, pairs)
    lessons = dialogues
    if source.augment:
        synonyms = None if source.synonyms is None else run.file(source.synonyms, "synonyms")
        lessons = run.step(augment, settings.augment, instructions=dialogues, synonyms=synonyms)

    base = pretrained(run, settings, text)
    tuned = train_step(run, settings, sft, settings.sft, base=base, instructions=lessons)
    judge = train_step(run, settings, reward, settings.reward, base=tuned, preferences=pairs)
    policy = train_step(run, settings, ppo, settings.ppo, policy=tuned, reward=judge, preferences=pairs)
    return run.step(
        evaluate,
        settings.evaluate,
        base=base,
        sft=tuned,
        reward=judge,
        policy=policy,
        tokens=text.tokens,
        tokenizer=text.vocabulary,
        documents=text.documents,
        instructions=dialogues,
        preferences=pairs,
    )
