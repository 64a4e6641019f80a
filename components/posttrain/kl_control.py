"""The price of moving away from the reference: fixed, or steered so that the KL stays near a target.

The adaptive rule is proportional control in log space (Ziegler et al. 2019, section 2.2). Its coefficient is state:
peers lose it on resume, and then the price jumps back. Ours goes into the checkpoint with `state_dict`.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_ERROR = 0.2


@dataclass
class KlController:
    """Holds the KL coefficient of PPO's reward.

    Attributes:
        coefficient: Price per nat of KL, in units of reward.
        target: KL of a whole reply to steer towards, nats; None keeps the coefficient fixed.
        horizon: Episodes over which an error that stays at its bound (20 %) changes the coefficient by a factor of
            about e^0.2; small is nervous.
    """

    coefficient: float
    target: float | None = None
    horizon: float = 10_000.0

    def update(self, kl: float, num_episodes: int) -> None:
        """Takes in the mean KL per reply (nats) of the episodes just made."""
        if self.target is not None:
            error = min(max(kl / self.target - 1.0, -MAX_ERROR), MAX_ERROR)
            self.coefficient *= 1.0 + error * num_episodes / self.horizon

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Goes on from a checkpoint."""
        self.coefficient = float(state["coefficient"])
