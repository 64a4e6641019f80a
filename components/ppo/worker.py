"""The PPO loop, as every rank runs it: roll out, work out what it was worth, learn, again.

All state between two updates is in `_State`, the two engines and the KL controller, and a checkpoint holds all of it.
Everything else (which prompts, which random numbers, which mini-batches) is a function of the seed and the number of
the update, so a run that was killed ends with the bits of one that was not. "Were we asked to stop" is agreed among
the ranks once per update: all save and leave together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, cast

from components.context import Json, Rank, derive_seed
from components.errors import Preempted
from components.posttrain.dialogues import ids_of
from components.posttrain.kl_control import KlController
from components.posttrain.prompts import Prompt, read_prompts
from components.ppo.config import PpoConfig
from components.ppo.held_out import before_and_after, evaluate
from components.ppo.learn import Guards, Learned, Lesson, Refused, describe_rollout, learn, make_lesson
from components.ppo.roles import Roles, make_roles
from components.ppo.rollout import collect, draw_prompts
from components.publish import publish_json
from components.tokenizer.load import TextTokenizer
from components.training.checkpoint import Checkpoint, agree_on_checkpoint, load_engine, restore_rng, rng_tensors
from components.training.config import TrainingConfig
from components.training.engine import StepReport
from components.training.saving import Saver
from components.training.schedule import lr_at
from components.training.stability import (
    LESSON,
    QUARANTINE,
    Guard,
    GuardState,
    Quarantine,
    Window,
    describe_batch,
    publish_quarantine,
)
from components.training.watchdog import Watchdog


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
    """All that the loop knows between two updates, but for the engines and the controller.

    Attributes:
        update: Updates done, those that were left out included.
        rollout_s: Seconds spent in rollouts.
        learn_s: Seconds spent in learning.
        guard: What became of optimizer steps, of actor and critic together; and what the actor's were like lately.
        critic: What the critic's were like lately.
        curve: One row per evaluation.
    """

    update: int = 0
    rollout_s: float = 0.0
    learn_s: float = 0.0
    guard: GuardState = field(default_factory=GuardState)
    critic: Window = field(default_factory=Window)
    curve: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, saved: dict[str, Json]) -> _State:
        """As it was saved."""
        values = dict(saved)
        guard = GuardState(**cast(dict[str, Any], values.pop("guard")))
        critic = Window(**cast(dict[str, Any], values.pop("critic")))
        return cls(guard=guard, critic=critic, **cast(dict[str, Any], values))


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
        StepError: An input cannot be used, or more steps were skipped, or more rewinds made, than the config allows.
        MachineError: A checkpoint could not be written.
    """
    config = replace(config, training=config.training.on_ranks(rank.world_size))
    tokenizer = TextTokenizer.from_folder(inputs.policy / "model")
    train, dropped = read_prompts(inputs.preferences / "prompts_train.arrow", tokenizer, config.max_prompt_tokens)
    held_out, _ = read_prompts(inputs.preferences / "prompts_held_out.arrow", tokenizer, config.max_prompt_tokens)
    held_out = draw_prompts(held_out, 0, min(config.eval_prompts, len(held_out)), seed)
    roles = make_roles(rank, config, inputs.policy, inputs.reward)
    with Watchdog(rank, inputs.scratch / "heartbeats", config.training.hang_timeout_s) as watchdog:
        run = _Run(rank, config, roles, train, held_out, inputs.scratch, seed, clock, watchdog)
        try:
            run.say(f"{len(train)} prompts; {dropped} are left out: longer than {config.max_prompt_tokens} tokens")
            with watchdog.following(*roles.modules):
                run.resume()
                while run.state.update < config.training.steps:
                    run.advance()
                run.finish()
                if rank.rank == 0:
                    _write(run, inputs, tokenizer)
        finally:
            run.close()
            roles.close()
    return cast(Json, run.summary())


def _write(run: _Run, inputs: Inputs, tokenizer: TextTokenizer) -> None:
    """Writes the artifact."""
    run.roles.actor_files.folder.save(inputs.output / "model", run.roles.replica.state_dict())
    publish_json(inputs.output / "curve.json", run.state.curve)
    publish_quarantine(inputs.scratch, inputs.output)
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
        scratch: Path,
        seed: int,
        clock: Callable[[], float],
        watchdog: Watchdog,
    ) -> None:
        self.state = _State()
        self.rank, self.config, self.roles, self.held_out, self.seed = rank, config, roles, held_out, seed
        self._prompts, self._folder, self._clock, self._watchdog = prompts, scratch / "checkpoints", clock, watchdog
        self._controller = KlController(config.kl_coefficient, config.kl_target, config.kl_horizon)
        self._guards = _guards_of(self.state, config.training)
        self._quarantine = Quarantine(scratch / QUARANTINE)
        self._saver = Saver(self._folder)
        self._saved_update, self._looked_at = -1, time.monotonic()

    def resume(self) -> None:
        """Continues from the newest checkpoint that is whole, or evaluates the policy as it starts."""
        checkpoint = agree_on_checkpoint(self.roles.actor, self._folder, self.say)
        self._show("starting")
        if checkpoint is not None:
            self._load(checkpoint)
            self.say(f"training continues from update {self.state.update}")
        else:
            self.roles.synchronise()
            self._evaluate()
        self.state.guard.repeated += max(0, self._watchdog.step_before - self.state.update)
        self._quarantine.remind(self.state.guard)
        if checkpoint is None and self.config.training.spike == "rewind":
            self._save()

    def advance(self) -> None:
        """One update, or the way back to a checkpoint, and what falls due after it."""
        state = self.state
        if state.update in state.guard.quarantined:
            state.update += 1
            self.say(f"update {state.update} is left out")
            self._after({})
            return
        learned, metrics = self._update()
        rewinding = [one for one in learned.refused if self._guards.actor.rewinds_for(one.reason)]
        if rewinding:
            self._rewind(rewinding[0])
            return
        self._count(learned.refused)
        state.update += 1
        self._after(metrics)

    def finish(self) -> None:
        """Waits until the last checkpoint is on disk, on all ranks."""
        self._at("saving")
        self._saver.finish(self.roles.actor)
        self._at("writing the results")

    def close(self) -> None:
        """Lets a write that is under way end."""
        self._saver.close()

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
            "skipped": float(state.guard.skipped),
            "episodes_per_second": state.update * self.config.training.batch_size / seconds,
            "rollout_share": state.rollout_s / seconds,
        }

    def say(self, sentence: str) -> None:
        """Keeps a sentence in the journal."""
        if self.rank.rank == 0:
            self.rank.channel.text("ppo", sentence, self.state.update)

    def _update(self) -> tuple[Learned, dict[str, float]]:
        config, state, roles = self.config, self.state, self.roles
        episodes = config.training.batch_size
        start = self._clock()
        seeds = [derive_seed(self.seed, "rollout", state.update, row) for row in range(episodes)]
        coefficient = self._controller.coefficient
        rollout = collect(roles, config, self._drawn(), seeds, self._at, self._should_stop)
        if rollout is None:
            self._leave()
        lesson = make_lesson(rollout, config, coefficient)
        middle = self._clock()
        self._show("learning")
        learned = self._learn(lesson)
        self._at("copying weights")
        roles.synchronise()
        end = self._clock()
        state.rollout_s, state.learn_s = state.rollout_s + middle - start, state.learn_s + end - middle
        if not lesson.finite:
            return learned, {}
        described = describe_rollout(lesson)
        self._controller.update(described["kl"], episodes)
        return learned, {**described, **learned.metrics(), "kl_coefficient": coefficient}

    def _learn(self, lesson: Lesson) -> Learned:
        """What the update learned; nothing from a lesson that is not finite, which counts as one step left out."""
        config, update = self.config, self.state.update
        if not lesson.finite:
            self._guards.actor.leave_out()
            return Learned(refused=[Refused(LESSON, math.nan, StepReport(math.nan, skipped=True))])
        lr = lr_at(config.training, update)
        return learn(self.roles, self._guards, lesson, config, lr=lr, update=update, seed=self.seed, place=self._at)

    def _count(self, refused: Sequence[Refused]) -> None:
        """Tells of steps that were left out."""
        left_out = [one for one in refused if not one.report.rescaled]
        if left_out:
            last = left_out[-1]
            self.say(f"update {self.state.update + 1} left out {len(left_out)} steps, the last because {last.reason}")
            self._record(last, "skip")
        for one in refused:
            self._guards.actor.check(self.state.update + 1, one.reason)
            self._guards.critic.check(self.state.update + 1, one.reason)

    def _rewind(self, refused: Refused) -> None:
        """Goes back to the newest checkpoint; this update will be left out. Collective."""
        at = self.state.update
        self._guards.actor.go_back(at + 1, refused.reason)
        self._record(refused, "rewind")
        self._at("going back")
        checkpoint = self._saver.newest(self.roles.actor, self.say)
        repeated = self.state.guard.repeated + at - checkpoint.step
        self._load(checkpoint)
        self.state.guard.repeated = repeated
        self._quarantine.remind(self.state.guard)
        self.say(f"back from update {at + 1} to update {checkpoint.step}, because {refused.reason}; it is left out")

    def _record(self, refused: Refused, action: str) -> None:
        at, size = self.state.update, self.config.training.batch_size
        rows = (at * size, (at + 1) * size)
        record = describe_batch(at, refused.reason, refused.loss, refused.report, action, rows, ids_of(self._drawn()))
        self._quarantine.add(record, write=self.rank.rank == 0)

    def _drawn(self) -> list[Prompt]:
        return draw_prompts(self._prompts, self.state.update, self.config.training.batch_size, self.seed)

    def _load(self, checkpoint: Checkpoint) -> None:
        """Puts everything where a checkpoint has it. Collective."""
        roles = self.roles
        load_engine(roles.actor, checkpoint, roles.actor_files, "actor_")
        load_engine(roles.critic, checkpoint, roles.critic_files, "critic_")
        restore_rng(roles.actor, checkpoint)
        saved = checkpoint.state()
        self._controller.load_state_dict(cast(dict[str, float], saved.pop("controller")))
        self.state = _State.of(saved)
        self._guards = _guards_of(self.state, self.config.training)
        self._saved_update = self.state.update
        self._quarantine.forget_from(self.state.update)
        roles.synchronise()

    def _after(self, metrics: dict[str, float]) -> None:
        """What falls due after an update; there are no metrics of one that was left out."""
        state, training = self.state, self.config.training
        last = state.update == training.steps
        if self.rank.rank == 0 and (last or state.update % training.log_every == 0):
            self.rank.channel.log({**metrics, **state.guard.happened()}, state.update)
        if last or (training.eval_every and state.update % training.eval_every == 0):
            self._evaluate()
        self._show(self._note(metrics))
        self._at("between updates")
        self._saver.check()
        channel = self.rank.channel
        words = [float(channel.should_stop()), float(self.rank.rank == 0 and channel.take_save())]
        stop, save = self.roles.actor.sum_over_ranks(words)
        if save or last or (training.checkpoint_every and state.update % training.checkpoint_every == 0):
            self._save()
        if stop and not last:
            self._leave()

    def _leave(self) -> NoReturn:
        """Saves, waits until it is on disk, and ends. Collective."""
        self._save()
        self.finish()
        raise Preempted(
            f"PPO was stopped after update {self.state.update} of {self.config.training.steps}; a checkpoint is saved.",
            fix="run again: training continues from there",
        )

    def _should_stop(self) -> bool:
        """Whether the run was asked to stop; looks once a second."""
        now = time.monotonic()
        if now - self._looked_at < 1:
            return False
        self._looked_at = now
        return self.rank.channel.should_stop()

    def _evaluate(self) -> None:
        self._at("evaluating")
        scores = evaluate(self.roles, self.held_out, self.config, self.seed)
        self.state.curve.append({"step": self.state.update, **scores})
        if self.rank.rank == 0:
            values = {name: scores[name] for name in ("val_score", "val_kl")}
            self.rank.channel.log(values, self.state.update)

    def _save(self) -> None:
        if self._saved_update == self.state.update:
            return
        self._at("saving")
        self._saver.wait()
        roles, lead = self.roles, self.rank.rank == 0
        models = [(files, engine.full_weights(lead)) for files, engine in roles.learning]
        moments = {
            "actor_optimizer": roles.actor.optimizer_state(lead),
            "critic_optimizer": roles.critic.optimizer_state(lead),
        }
        tensors = {**moments, **rng_tensors(roles.actor)}
        if lead:
            state = {**asdict(self.state), "controller": self._controller.state_dict()}
            self._saver.start(self.state.update, models, tensors, cast(dict[str, Json], state))
        self._saved_update = self.state.update

    def _at(self, place: str) -> None:
        self._watchdog.at(place, self.state.update, anew=True)

    def _note(self, metrics: dict[str, float]) -> str:
        state = self.state
        share = state.rollout_s / max(state.rollout_s + state.learn_s, 1e-9)
        told = f"score {metrics['score']:.2f}  kl {metrics['kl']:.1f}  " if metrics else ""
        return f"{told}rollouts {share:.0%} of the time  skipped {state.guard.skipped}"

    def _show(self, note: str) -> None:
        if self.rank.rank == 0:
            self.rank.channel.progress(self.state.update, self.config.training.steps, "updates", note)


def _guards_of(state: _State, training: TrainingConfig) -> Guards:
    return Guards(Guard(training, state.guard), Guard(training, state.guard, state.critic))
