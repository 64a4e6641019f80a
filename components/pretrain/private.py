"""Private pretraining: rows drawn by coins, epsilon told at every evaluation and kept beside the model.

The unit of privacy is a row of `pretrain.length` tokens: epsilon bounds what the weights tell about whether any one row
was learned from. A document that fills many rows, or a person who wrote many documents, is protected accordingly less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from components.context import Json
from components.pretrain.config import PretrainConfig
from components.pretrain.task import NextToken
from components.shards.loader import Loader, RowBatch, TokenRows
from components.training.engine import Engine
from components.training.privacy import Budget, make_budget


def budget_of(config: PretrainConfig, num_rows: int) -> Budget:
    """The budget of a private training over so many rows."""
    training = config.training
    return make_budget(training.privacy, training.batch_size, num_rows, training.steps)


class PrivateRows(NextToken):
    """Next-token prediction over rows that enter a step independently of each other (Poisson sampling).

    A step has `batch_size` rows on average. Losses are per token of an average step, so that what is divided by never
    depends on the rows.

    Args:
        config: The step's settings.
        train: Rows to learn from.
        validation: Rows to score.
        on_evaluate: See `NextToken`.
        budget: Noise and sampling.
        secret: What the rows are drawn from.
    """

    def __init__(
        self,
        config: PretrainConfig,
        train: Loader,
        validation: TokenRows,
        on_evaluate: Callable[[Engine, int], None],
        budget: Budget,
        secret: int,
    ) -> None:
        super().__init__(config.training, train, validation, on_evaluate, config.loader_threads, config.document_mask)
        self.budget, self.secret = budget, secret
        self._starts = np.cumsum([0, *(group.num_rows for group in train.plan.groups.values())])

    def units(self, step: int) -> float:
        """Tokens of an average step: the same number for every step."""
        return float(self._config.batch_size * self._train.length)

    def tokens(self, step: int) -> int:
        """Tokens read in a step."""
        return len(self.drawn(step)) * self._train.length

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """As `NextToken.evaluate`, and epsilon so far."""
        return {**super().evaluate(engine, step), "epsilon": self.budget.spent(step)}

    def documents(self, step: int) -> list[str]:
        """None: epsilon counts on nobody knowing which rows a step drew."""
        return []

    def drawn(self, step: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The rows of a step: each is among them with the same chance, whatever the others are."""
        num_rows = int(self._starts[-1])
        generator = np.random.default_rng([self.secret, step])
        count = generator.binomial(num_rows, self.budget.sample_rate)
        return generator.choice(num_rows, count, replace=False, shuffle=False).astype(np.int64)

    def _read(self, rank: int, world_size: int, step: int) -> RowBatch:
        rows = self.drawn(step)
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        spans = self._train.spans(groups, rows - self._starts[groups])
        return RowBatch(self._train.split.read(spans, len(rows), self._train.length + 1), spans)


def privacy_record(config: PretrainConfig, budget: Budget, num_rows: int, steps: int) -> dict[str, Json]:
    """What is kept beside the model: what was promised, for what, and how it was reckoned."""
    return {
        "epsilon": budget.spent(steps),
        **asdict(budget),
        "max_norm": config.training.privacy.max_norm,
        "steps": steps,
        "rows": num_rows,
        "unit": f"one row of {config.length} tokens, added or removed",
        "sampling": "poisson",
        "covers": ["model"],
        "does_not_cover": ["train_loss", "number of rows", "tokenizer", "choice of settings"],
    }
