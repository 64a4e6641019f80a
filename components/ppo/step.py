"""PPO as a step: the fine-tuned model goes in, a policy that the reward model prefers comes out.

    model/         the policy as a Hugging Face folder
    curve.json     score and KL on held-out prompts, at the start, every `training.eval_every` updates and at the end
    samples.json   some held-out prompts with the reply and score before and after
    quarantine.jsonl   updates of which something was left out, if there are any

The loop is in `worker.py`, one process per rank. Shown by issue threads of its peers to be worth insisting on: resume
restores everything (optimizers, critic, KL controller, guard), the sampler's log-probabilities are checked against the
trained model's in every update, and any number of ranks sees the same samples.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from components.context import Context, Metrics
from components.ppo.config import PpoConfig

VERSION = 1


def ppo(ctx: Context, config: PpoConfig, policy: Path, reward: Path, preferences: Path) -> Metrics:
    """Trains a policy against a reward model.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        policy: Artifact whose `model` folder is the policy to start from, and the reference the KL is measured to.
        reward: Artifact of the `reward` step.
        preferences: Artifact with `prompts_train.arrow` and `prompts_held_out.arrow`.

    Returns:
        score and score_before (held-out, normalised), kl (nats per reply), stop_rate, response_length (tokens),
        updates, skipped, episodes_per_second and rollout_share.

    Raises:
        Preempted: The run was asked to stop: the next one continues.
        StepError: An input cannot be used.
    """
    from components.ppo.worker import Inputs, train_rank

    ranks = config.training.ranks
    ctx.progress(0, config.training.steps, "updates", f"starting {ranks} rank{'s' if ranks > 1 else ''}")
    inputs = Inputs(policy, reward, preferences, ctx.output, ctx.scratch)
    run = partial(train_rank, config=config, inputs=inputs, seed=ctx.seed("ppo"))
    return cast(Metrics, ctx.launch(run, ranks, config.training.allowed_ranks()))
