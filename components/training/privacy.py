"""Differential privacy: what is asked for, how much noise that takes, and what it has come to.

DP-SGD (1607.00133): each row's gradient is clipped to `max_norm`, Gaussian noise of `noise` times that norm is added to
their sum, and every row enters a step by a coin of its own (Poisson sampling). Opacus' accountants turn noise, share of
rows per step and number of steps into epsilon; they assume just that sampling, and it is what the training does.

The settings stand here without torch, because a recipe reads them before anything heavy is loaded; Opacus takes
seconds to import and is only asked for by a training that is private.
"""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from components.configuring import require, require_choice
from components.errors import ConfigError, MachineError, StepError
from components.publish import publish_bytes

ACCOUNTANTS = ("prv", "rdp")
SECRET = "privacy.secret"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class PrivacyConfig:
    """Settings of private training.

    Attributes:
        on: Whether training is private.
        epsilon: What the whole training may come to, where `noise` is not set: the noise follows from it.
        noise: Standard deviation of the noise as a multiple of `max_norm`; unset, it follows from `epsilon`.
        delta: The chance with which epsilon may not hold; below one over the number of rows.
        max_norm: Largest L2 norm of a row's gradient; what is longer is scaled down to it.
        accountant: "prv" (numerical composition, 2106.02848) or "rdp" (Rényi, 1702.07476), which bounds less tightly.
    """

    on: bool = False
    epsilon: float = 8.0
    noise: float | None = None
    delta: float = 1e-6
    max_norm: float = 1.0
    accountant: str = "prv"

    def __post_init__(self) -> None:
        key = "training.privacy"
        for name in ("epsilon", "max_norm"):
            value = getattr(self, name)
            require(value > 0, f"{key}.{name}", value, "must be above 0", f"{key}.{name}=1")
        noise = self.noise
        require(noise is None or noise > 0, f"{key}.noise", noise, "must be above 0", f"{key}.noise=1, or =null")
        require(0 < self.delta < 1, f"{key}.delta", self.delta, "must lie between 0 and 1", f"{key}.delta=1e-6")
        require_choice(f"{key}.accountant", self.accountant, ACCOUNTANTS)


@dataclass(frozen=True)
class Budget:
    """How a training spends privacy.

    Attributes:
        noise: Standard deviation of the noise as a multiple of the largest norm of a row's gradient.
        sample_rate: Chance of each row to be in a step.
        delta: See `PrivacyConfig`.
        accountant: See `PrivacyConfig`.
    """

    noise: float
    sample_rate: float
    delta: float
    accountant: str

    def spent(self, steps: int) -> float:
        """Epsilon after so many steps; infinite without noise."""
        if steps == 0:
            return 0.0
        if self.noise == 0:
            return math.inf

        def account() -> float:
            from opacus.accountants import create_accountant

            accountant = create_accountant(mechanism=self.accountant)
            accountant.history = [(self.noise, self.sample_rate, steps)]
            return float(accountant.get_epsilon(delta=self.delta))

        return _with_opacus(account)


def make_budget(config: PrivacyConfig, batch_size: int, num_rows: int, steps: int) -> Budget:
    """Works out the noise.

    Args:
        config: What is asked for.
        batch_size: Rows of a step, on average.
        num_rows: Rows there are.
        steps: Steps of the training.

    Raises:
        StepError: If the rows are too few for the batch or for delta, or no noise reaches the epsilon asked for.
        MachineError: If Opacus is not installed.
    """
    rate = batch_size / num_rows
    if rate > 1:
        raise StepError(
            f"A step draws {batch_size} of {num_rows} rows.",
            where="training.batch_size",
            fix=f"set training.batch_size={max(1, num_rows // 100)}",
        )
    if config.delta >= 1 / num_rows:
        raise StepError(
            f"With {num_rows} rows a delta of {config.delta:g} allows to give away a whole row.",
            where="training.privacy.delta",
            fix=f"set training.privacy.delta={0.1 / num_rows:.1g}",
        )
    noise = config.noise if config.noise is not None else _noise_for(config, rate, steps)
    return Budget(noise, rate, config.delta, config.accountant)


def _noise_for(config: PrivacyConfig, rate: float, steps: int) -> float:
    def solve() -> float:
        from opacus.accountants.utils import get_noise_multiplier

        return float(
            get_noise_multiplier(
                target_epsilon=config.epsilon,
                target_delta=config.delta,
                sample_rate=rate,
                steps=steps,
                accountant=config.accountant,
            )
        )

    try:
        return _with_opacus(solve)
    except ValueError as error:
        raise StepError(
            f"No noise keeps {steps} steps within epsilon {config.epsilon:g}: {error}.",
            where="training.privacy.epsilon",
            fix="allow a larger training.privacy.epsilon, or take fewer steps or smaller batches",
        ) from error


def _with_opacus(answer: Callable[[], Answer]) -> Answer:
    """Asks Opacus; its remarks on how tight a bound is are no news to anyone who set the accountant."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return answer()
    except ImportError as error:
        raise MachineError(
            f"Opacus is not installed: {error}.",
            where="training.privacy.on=true",
            fix="pip install 'headwater[privacy]', or set training.privacy.on=false",
        ) from error


def refuse_private(config: PrivacyConfig, why: str) -> None:
    """Refuses private training where it is not possible.

    Args:
        config: What is asked for.
        why: What stands against it, as the rest of a sentence that begins with the key.

    Raises:
        ConfigError: If it is asked for.
    """
    if config.on:
        raise ConfigError(
            f"training.privacy.on=true {why}.", where="training.privacy.on", fix="set training.privacy.on=false"
        )


def draw_secret(folder: Path) -> int:
    """What noise and rows are drawn from: made once out of the system's randomness, the same when training goes on.

    Args:
        folder: The step's scratch, which no artifact holds.
    """
    path = folder / SECRET
    if not path.exists():
        publish_bytes(path, secrets.token_hex(16).encode())
        path.chmod(0o600)
    return int(path.read_text(encoding="ascii"), 16)
