"""The reward model as a judge: raw scores, and the same in standard deviations of what it gave on its own data.

Raw scores have no scale: Bradley-Terry sees differences only. The `reward` step stores mean and standard deviation over
its pairs beside the weights, so that one unit of reward, one nat of KL price and one clip bound mean the same for any
reward model. PPO's critic starts as a copy of the judge and speaks the same raw unit, so the same normaliser
turns its values into rewards, and at the first update it already predicts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from components.errors import StepError
from components.model.language import AnyScalar, load_scalar_model
from components.publish import read_json

FILE_NAME = "reward.json"


@dataclass(frozen=True)
class Scale:
    """Where raw scores lie.

    Attributes:
        mean: Of raw scores.
        std: Their standard deviation, above 0.
    """

    mean: float
    std: float

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw scores in standard deviations from the mean; any shape."""
        return (raw - self.mean) / self.std


@dataclass(frozen=True)
class Judge:
    """A frozen reward model with its scale."""

    model: AnyScalar
    scale: Scale


def load_judge(folder: Path) -> Judge:
    """Loads the model folder of a `reward` artifact: frozen, in eval mode, on the CPU.

    Raises:
        StepError: If it is no reward model, or its scores do not vary.
    """
    model = load_scalar_model(folder).eval().requires_grad_(False)
    return Judge(model, read_scale(folder))


def read_scale(folder: Path) -> Scale:
    """Reads mean and standard deviation of a reward model's scores.

    Raises:
        StepError: If they are missing or the scores do not vary.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise StepError(
            "The reward model has no scale of its scores.",
            where=f"{path} does not exist",
            fix="give the artifact of the reward step",
        )
    values = read_json(path)
    mean, std = float(str(values["score_mean"])), float(str(values["score_std"]))
    if not std > 0:
        raise StepError(
            f"The reward model gives every reply the same score (standard deviation {std:g}).",
            where=str(path),
            fix="train the reward model longer, or on pairs whose sides differ",
        )
    return Scale(mean, std)
