"""The PPO loop, as every rank runs it: roll out, work out what it was worth, learn, again.

All state between two updates is in `_State`, the two engines and the KL controller, and a checkpoint holds all of it.
Everything else (which prompts, which random numbers, which mini-batches) is a function of the seed and the number of
the update, so a run that was killed ends with the bits of one that was not. "Were we asked to stop" is agreed among
the ranks once per update: all save and leave together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from components.context import Json, Rank, derive_seed
from components.errors import Preempted, StepError
from components.model.language import save_language_model
from components.posttrain.kl_control import KlController
from components.posttrain.prompts import Prompt, read_prompts
from components.ppo.config import PpoConfig
from components.ppo.held_out import before_and_after, evaluate
from components.ppo.learn import describe_rollout, learn, make_lesson
from components.ppo.roles import Roles, make_roles
from components.ppo.rollout import collect, draw_prompts
from components.publish import publish_json
from components.tokenizer.load import TextTokenizer
from components.training.checkpoint import agree_on_checkpoint, engine_tensors, load_engine, save_checkpoint
from components.training.schedule import lr_at


@dataclass(frozen=True)
class Inputs:
    """The artifacts of the step, and where what it makes goes.

    Attributes:
        policy: Artifact with the policy to start from.
        reward: Artifact with the reward model.
        preferences: Artifact with the prompts.
        output: The step's output folder.
        scratch: Where checkpoints live.
    """

    policy: Path
    reward: Path
    preferences: Path
    output: Path
    scratch: Path


@dataclass
class _State:
    """All that the loop knows between two updates, but for the engines and the controller."""

    update: int = 0
    skipped: int = 0
    rollout_s: float = 0.0
    learn_s: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


def train_rank(
    rank: Rank, *, config: PpoConfig, inputs: Inputs, seed: int, clock: Callable[[], float] = time.perf_counter
) -> Json:
    """Runs PPO on this rank; rank 0 logs, and writes `model/`, `curve.json` and `samples.json`.

    Args:
        rank: This process.
        config: Settings of the step.
        inputs: Artifacts and folders.
        seed: Root of all randomness.
        clock: Seconds since some moment.

    Returns:
        The step's metrics.

    Raises:
        Preempted: The run was asked to stop: a checkpoint is saved.
        StepError: An input cannot be used, or too many steps had a gradient that is not finite.
    """
    config = replace(config, training=config.training.on_ranks(rank.world_size))
    tokenizer = TextTokenizer.from_folder(inputs.policy / "model")
    train, dropped = read_prompts(inputs.preferences / "prompts_train.arrow", tokenizer, config.max_prompt_tokens)
    held_out, _ = read_prompts(inputs.preferences / "prompts_held_out.arrow", tokenizer, config.max_prompt_tokens)
    held_out = draw_prompts(held_out, 0, min(config.eval_prompts, len(held_out)), seed)
    roles = make_roles(rank, config, inputs.policy, inputs.reward)
    run = _Run(rank, config, roles, train, held_out, inputs.scratch / "checkpoints", seed, clock)
    try:
        run.say(f"{len(train)} prompts; {dropped} are left out: longer than {config.max_prompt_tokens} tokens")
        run.resume()
        while run.state.update < config.training.steps:
            run.advance()
        if rank.rank == 0:
            _write(run, inputs, tokenizer)
    finally:
        roles.close()
    return cast(Json, run.summary())


def _write(run: _Run, inputs: Inputs, tokenizer: TextTokenizer) -> None:
    """Writes the artifact."""
    replica = run.roles.replica
    save_language_model(replica.config, replica.state_dict(), inputs.output / "model", inputs.policy / "model")
    publish_json(inputs.output / "curve.json", run.state.curve)
    samples = before_and_after(run.roles, run.held_out, run.config, run.seed, tokenizer)
    publish_json(inputs.output / "samples.json", samples)
    for sample in samples:
        text = f"{sample['prompt']}\n  before: {sample['before']}\n  after:  {sample['reply']}"
        run.rank.channel.text("sample", text, run.state.update)


class _Run:
    """One call of `train_rank`: the state and what acts on it."""

    def __init__(
        self,
        rank: Rank,
        config: PpoConfig,
        roles: Roles,
        prompts: list[Prompt],
        held_out: list[Prompt],
        folder: Path,
        seed: int,
        clock: Callable[[], float],
    ) -> None:
        self.state = _State()
        self.rank, self.config, self.roles, self.held_out, self.seed = rank, config, roles, held_out, seed
        self._prompts, self._folder, self._clock = prompts, folder, clock
        self._controller = KlController(config.kl_coefficient, config.kl_target, config.kl_horizon)
        self._saved_update = -1

    def resume(self) -> None:
        """Continues from the newest checkpoint that is whole, or evaluates the policy as it starts."""
        checkpoint = agree_on_checkpoint(self.roles.actor, self._folder, self.say)
        if checkpoint is not None:
            load_engine(self.roles.actor, checkpoint, "actor_")
            load_engine(self.roles.critic, checkpoint, "critic_")
            saved = checkpoint.state()
            self._controller.load_state_dict(cast(dict[str, float], saved.pop("controller")))
            self.state = _State(**saved)  # type: ignore[arg-type]
            self._saved_update = self.state.update
            self.say(f"training continues from update {self.state.update}")
        self._show("starting")
        self.roles.synchronise()
        if checkpoint is None:
            self._evaluate()

    def advance(self) -> None:
        """One update, and what falls due after it."""
        state, training = self.state, self.config.training
        metrics = self._update()
        state.update += 1
        last = state.update == training.steps
        if self.rank.rank == 0 and (last or state.update % training.log_every == 0):
            self.rank.channel.log(metrics, state.update)
        if last or (training.eval_every and state.update % training.eval_every == 0):
            self._evaluate()
        share = state.rollout_s / (state.rollout_s + state.learn_s)
        self._show(f"score {metrics['score']:.2f}  kl {metrics['kl']:.1f}  rollouts {share:.0%} of the time")
        channel = self.rank.channel
        words = [float(channel.should_stop()), float(self.rank.rank == 0 and channel.take_save())]
        stop, save = self.roles.actor.sum_over_ranks(words)
        if stop or save or last or (training.checkpoint_every and state.update % training.checkpoint_every == 0):
            self._save()
        if stop and not last:
            raise Preempted(
                f"PPO was stopped after update {state.update} of {training.steps}; a checkpoint is saved.",
                fix="run again: training continues from there",
            )

    def summary(self) -> dict[str, float]:
        """The step's metrics."""
        state, first, last = self.state, self.state.curve[0], self.state.curve[-1]
        seconds = state.rollout_s + state.learn_s
        return {
            "score": last["val_score"],
            "score_before": first["val_score"],
            "kl": last["val_kl"],
            "stop_rate": last["val_stop_rate"],
            "response_length": last["val_length"],
            "updates": float(state.update),
            "skipped": float(state.skipped),
            "episodes_per_second": state.update * self.config.training.batch_size / seconds,
            "rollout_share": state.rollout_s / seconds,
        }

    def say(self, sentence: str) -> None:
        """Keeps a sentence in the journal."""
        if self.rank.rank == 0:
            self.rank.channel.text("ppo", sentence, self.state.update)

    def _update(self) -> dict[str, float]:
        config, state, roles = self.config, self.state, self.roles
        episodes = config.training.batch_size
        start = self._clock()
        prompts = draw_prompts(self._prompts, state.update, episodes, self.seed)
        seeds = [derive_seed(self.seed, "rollout", state.update, row) for row in range(episodes)]
        coefficient = self._controller.coefficient
        lesson = make_lesson(collect(roles, config, prompts, seeds), config, coefficient)
        middle = self._clock()
        self._show("learning")
        lr = lr_at(config.training, state.update)
        learned = learn(roles, lesson, config, lr=lr, update=state.update, seed=self.seed)
        roles.synchronise()
        end = self._clock()
        state.rollout_s, state.learn_s = state.rollout_s + middle - start, state.learn_s + end - middle
        self._count_skipped(int(learned.pop("skipped")))
        described = describe_rollout(lesson)
        self._controller.update(described["kl"], episodes)
        return {**described, **learned, "kl_coefficient": coefficient}

    def _count_skipped(self, skipped: int) -> None:
        state, training = self.state, self.config.training
        state.skipped += skipped
        if skipped:
            self.say(f"update {state.update + 1} skipped {skipped} steps whose gradient was not finite")
        if state.skipped > training.max_skipped:
            raise StepError(
                f"PPO skipped {state.skipped} steps with a gradient that is not finite, "
                f"the last in update {state.update + 1}.",
                where=f"ppo.training.max_skipped={training.max_skipped}",
                fix=f"lower ppo.training.lr={training.lr:g} or ppo.critic_lr={self.config.critic_lr:g}",
            )

    def _evaluate(self) -> None:
        scores = evaluate(self.roles, self.held_out, self.config, self.seed)
        self.state.curve.append({"step": self.state.update, **scores})
        if self.rank.rank == 0:
            values = {name: scores[name] for name in ("val_score", "val_kl")}
            self.rank.channel.log(values, self.state.update)

    def _save(self) -> None:
        if self._saved_update == self.state.update:
            return
        actor, critic = engine_tensors(self.roles.actor, "actor_"), engine_tensors(self.roles.critic, "critic_")
        if self.rank.rank == 0:
            state = {**vars(self.state), "controller": self._controller.state_dict()}
            save_checkpoint(self._folder, self.state.update, {**actor, **critic}, cast(dict[str, Json], state))
        self._saved_update = self.state.update

    def _show(self, note: str) -> None:
        if self.rank.rank == 0:
            self.rank.channel.progress(self.state.update, self.config.training.steps, "updates", note)
