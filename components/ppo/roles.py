"""The five parts played in PPO, all in one process: actor, critic, reference, judge, and the replica that samples.

    actor      the policy being trained, in an engine (ZeRO may split it)
    critic     predicts the reward to come, in an engine; starts as a copy of the judge, its head included
    reference  the policy as it was, frozen: what the KL is measured against
    judge      the reward model, frozen
    replica    an unsharded copy of the actor's weights, made anew before every rollout

Sampling asks for weights token by token. Under ZeRO-3 each of those would be a gather, and ranks whose replies end
earlier would leave the others waiting; copying all weights once costs milliseconds and is right at every stage. Roles
share one process because five processes of a tiny model would mostly be five copies of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from components.context import Rank
from components.errors import StepError
from components.model.language import AnyConfig, LanguageModel, load_language_model, load_scalar_model
from components.posttrain.judge import Judge, load_judge
from components.posttrain.replies import SCORER_PREFIX, ReplyScorer
from components.ppo.config import PpoConfig
from components.training.checkpoint import ModelFiles
from components.training.engine import Engine, copy_weights, make_engine
from components.training.model_folder import ModelFolder


@dataclass(frozen=True)
class PolicyFiles:
    """See `components.training.checkpoint.ModelFiles`: the actor without the prefix that its scorer puts before it."""

    folder: ModelFolder

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """See `ModelFiles.write`."""
        self.folder.write(folder, {name.removeprefix(SCORER_PREFIX): weight for name, weight in weights.items()})

    def read(self, folder: Path) -> Mapping[str, Tensor]:
        """See `ModelFiles.read`."""
        return {SCORER_PREFIX + name: weight for name, weight in self.folder.read(folder).items()}


@dataclass(frozen=True)
class Roles:
    """See the module. All of them live on the same device.

    Attributes:
        actor_files: The policy lies in a checkpoint as the model folder that the checkpoint is.
        critic_files: The critic lies beside it in `critic/`, as a classifier with one label.
    """

    actor: Engine
    critic: Engine
    reference: LanguageModel
    judge: Judge
    replica: LanguageModel
    actor_files: PolicyFiles
    critic_files: ModelFolder

    @property
    def learning(self) -> tuple[tuple[ModelFiles, Engine], ...]:
        """What a checkpoint holds, each with how it is laid out."""
        return (self.actor_files, self.actor), (self.critic_files, self.critic)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """What every forward pass enters; the reference, asked for hidden states, enters its embedding alone."""
        embeddings = [part for part in self.reference.modules() if isinstance(part, nn.Embedding)]
        return self.actor.module, self.critic.module, self.judge.model, self.replica, *embeddings

    def synchronise(self) -> None:
        """Copies the actor's weights into the replica. Collective."""
        weights = self.actor.full_weights()
        copy_weights({name.removeprefix(SCORER_PREFIX): weight for name, weight in weights.items()}, self.replica)

    def close(self) -> None:
        """Releases the engines."""
        self.actor.close()
        self.critic.close()


def make_roles(rank: Rank, config: PpoConfig, policy: Path, reward: Path) -> Roles:
    """Loads the models and makes the engines. Collective.

    Args:
        rank: This process.
        config: Engine and optimizer settings.
        policy: Artifact of the `sft` step (or any with a `model` folder).
        reward: Artifact of the `reward` step.

    Raises:
        StepError: If a model cannot be used, the two do not share a vocabulary, or prompts and replies do not fit.
    """
    start, judge = load_language_model(policy / "model"), load_judge(reward / "model")
    _check(config, start.config, judge.model.config, reward)
    critic = load_scalar_model(reward / "model")
    critic_config = replace(config.training, lr=config.critic_lr)
    actor_files = ModelFolder.of(start, start.config, policy / "model")
    critic_files = ModelFolder.of(critic, critic.config, policy / "model", place="critic")
    frozen = load_language_model(policy / "model").eval().requires_grad_(False)
    replica = load_language_model(policy / "model").eval().requires_grad_(False)
    judge.model.to(rank.device)
    return Roles(
        actor=make_engine(ReplyScorer(start), config.training, rank),
        critic=make_engine(critic, critic_config, rank),
        reference=frozen.to(rank.device),
        judge=judge,
        replica=replica.to(rank.device),
        actor_files=PolicyFiles(actor_files),
        critic_files=critic_files,
    )


def _check(config: PpoConfig, policy: AnyConfig, judge: AnyConfig, reward: Path) -> None:
    if policy.vocab_size != judge.vocab_size:
        raise StepError(
            f"The policy knows {policy.vocab_size} tokens and the reward model {judge.vocab_size}.",
            where=str(reward / "model" / "config.json"),
            fix="train the reward model from the same base as the policy",
        )
    needed = config.max_prompt_tokens + config.max_new_tokens
    room = min(policy.max_length, judge.max_length)
    if needed > room:
        raise StepError(
            f"Prompts of {config.max_prompt_tokens} and replies of {config.max_new_tokens} tokens need {needed}, "
            f"but the models read at most {room}.",
            where="ppo.max_prompt_tokens, ppo.max_new_tokens",
            fix=f"set ppo.max_prompt_tokens={room // 2} ppo.max_new_tokens={room // 2}",
        )
