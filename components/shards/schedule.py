"""What determines the order of training rows, as one value that travels and is written beside the model.

Whoever has it, the tokens and the plan can tell what any step read, and which steps read any document
(`components.shards.inverse`): today, or years after the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from components.shards.config import MixtureConfig


@dataclass(frozen=True)
class Schedule:
    """See the module.

    Attributes:
        seed: Chooses the order.
        batch_size: Rows of a step, over all ranks.
        length: Tokens of a row.
        mixture: Weights of the groups.
    """

    seed: int
    batch_size: int
    length: int
    mixture: MixtureConfig = field(default_factory=MixtureConfig)

    def to_json(self) -> dict[str, object]:
        """As plain values, for `order.json`."""
        mixture = {"weights": self.mixture.weights, "changes": self.mixture.changes}
        return {"seed": self.seed, "batch_size": self.batch_size, "length": self.length, "mixture": mixture}

    def reads_alike_before(self, other: Schedule, step: int) -> bool:
        """True if both schedules read the same rows in all steps before one."""
        first, second = ([stretch for stretch in one.mixture.stretches() if stretch[0] < step] for one in (self, other))
        same = (self.seed, self.batch_size, self.length) == (other.seed, other.batch_size, other.length)
        return same and first == second

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Schedule:
        """Out of what `to_json` gave; other keys are left alone.

        Raises:
            KeyError: If a value is missing.
        """
        mixture = cast(Mapping[str, dict[str, str]], values["mixture"])
        numbers = {name: int(cast(int, values[name])) for name in ("seed", "batch_size", "length")}
        return cls(**numbers, mixture=MixtureConfig(mixture["weights"], mixture["changes"]))
