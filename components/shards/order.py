"""Which row comes when, and when a row comes: both are pure functions, so there is no state to save.

Sample s = step * batch_size + i belongs to a group (`turns`), as its c-th sample; c lies in epoch c // num_rows of that
group, and each epoch has its own keyed permutation of the group's rows. So the order within a group depends on the
seed, the group's name and its rows alone: weights may change and groups may join without moving it, no row is lost or
comes twice in an epoch. A resumed run, or one on another number of ranks, asks for the same samples and gets the same
rows. Without weights all rows of all groups are one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from components.context import derive_seed
from components.errors import StepError
from components.shards.corpus import IntArray
from components.shards.permutation import permute, unpermute
from components.shards.plan import ALL, Plan
from components.shards.schedule import Schedule
from components.shards.turns import Round, round_of


@dataclass(frozen=True)
class _Stretch:
    """Samples between two changes of the weights; `before` counts each group's samples up to its start."""

    start: int
    turns: Round
    groups: IntArray
    before: IntArray


class Order:
    """The order of the rows of a plan.

    Args:
        plan: The rows.
        schedule: Seed, batch size and mixture.

    Raises:
        StepError: If the plan was made for another length, has no rows, or lacks a group that has a weight.
    """

    def __init__(self, plan: Plan, schedule: Schedule) -> None:
        self.schedule = schedule
        self.names = list(plan.groups)
        self._sizes = np.array([rows.num_rows for rows in plan.groups.values()], dtype=np.int64)
        self._ends = np.cumsum(self._sizes)
        _check(plan, schedule, self._sizes)
        stretches = schedule.mixture.stretches()
        self._joint = not stretches
        self._stretches = list(self._lay_out(stretches))
        self._starts = [stretch.start for stretch in self._stretches]

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return int(self._sizes.sum())

    def rows(self, first: int, last: int) -> tuple[IntArray, IntArray]:
        """Group (its number in `names`) and row of the samples [first, last)."""
        samples = np.arange(first, last, dtype=np.int64)
        groups, rows = np.empty_like(samples), np.empty_like(samples)
        for number, stretch in enumerate(self._stretches):
            low = max(0, self._starts[number] - first)
            end = self._starts[number + 1] if number + 1 < len(self._starts) else last
            high = min(end, last) - first
            if low >= high:
                continue
            turns, counts = stretch.turns.at(samples[low:high] - stretch.start)
            here = stretch.groups[turns]
            groups[low:high] = here
            rows[low:high] = self._permuted(here, stretch.before[here] + counts)
        if self._joint:
            groups = np.searchsorted(self._ends, rows, side="right")
            rows = rows - (self._ends - self._sizes)[groups]
        return groups, rows

    def samples(self, group: int, row: int, num_samples: int) -> list[int]:
        """When a row comes: the samples below `num_samples`, ascending."""
        served, size, place = group, int(self._sizes[group]), row
        if self._joint:
            served, size, place = 0, self.num_rows, row + int(self._ends[group] - self._sizes[group])
        found: list[int] = []
        for number, stretch in enumerate(self._stretches):
            end = min(num_samples, self._starts[number + 1] if number + 1 < len(self._starts) else num_samples)
            if end <= stretch.start or served not in stretch.groups:
                continue
            turn = int(np.flatnonzero(stretch.groups == served)[0])
            low = int(stretch.before[served])
            high = low + int(stretch.turns.counts(end - stretch.start)[turn])
            for epoch in range(low // size, -(-high // size)):
                key = self._key(served, epoch)
                count = epoch * size + int(unpermute(np.array([place]), size, key)[0])
                if low <= count < high:
                    found.append(stretch.start + int(stretch.turns.when(turn, np.array([count - low]))[0]))
        return sorted(found)

    def _permuted(self, groups: IntArray, counts: IntArray) -> IntArray:
        """The row of each group's `counts`-th sample."""
        rows = np.empty_like(counts)
        for group in np.unique(groups).tolist():
            size = self.num_rows if self._joint else int(self._sizes[group])
            mine = np.flatnonzero(groups == group)
            epochs, places = np.divmod(counts[mine], size)
            for epoch in np.unique(epochs).tolist():
                now = epochs == epoch
                rows[mine[now]] = permute(places[now], size, self._key(group, epoch))
        return rows

    def _key(self, group: int, epoch: int) -> int:
        name = ALL if self._joint else self.names[group]
        return derive_seed("rows", self.schedule.seed, *([name] if name else []), epoch)

    def _lay_out(self, stretches: list[tuple[int, dict[str, int]]]) -> Iterator[_Stretch]:
        before = np.zeros(max(1, len(self.names)), dtype=np.int64)
        if self._joint:
            yield _Stretch(0, round_of((1,)), np.zeros(1, dtype=np.int64), before)
            return
        for number, (step, weights) in enumerate(stretches):
            groups = np.array([self.names.index(name) for name in weights], dtype=np.int64)
            stretch = _Stretch(
                step * self.schedule.batch_size, round_of(tuple(weights.values())), groups, before.copy()
            )
            yield stretch
            if number + 1 < len(stretches):
                end = stretches[number + 1][0] * self.schedule.batch_size
                before[groups] += stretch.turns.counts(end - stretch.start)


def _check(plan: Plan, schedule: Schedule, sizes: IntArray) -> None:
    if plan.length != schedule.length:
        raise StepError(
            f"Rows are packed for {plan.length} tokens and {schedule.length} are asked for.",
            where=f"pretrain.length={schedule.length}",
            fix=f"set pack.length={schedule.length}",
        )
    wanted = [name for _, weights in schedule.mixture.stretches() for name in weights]
    rows = {name: int(size) for name, size in zip(plan.groups, sizes, strict=True)}
    for name in wanted:
        if not rows.get(name):
            why = "fills no row" if name in rows else "is not in the plan"
            raise StepError(
                f"The mixture gives a weight to the group {name}, which {why}.",
                where="pretrain.mixture",
                fix=f"weigh {', '.join(sorted(rows)) if any(rows) else 'nothing, or set pack.group=lang'}",
            )
