"""Checkpoints behind the training's back: it stops for a copy, and a thread hashes, writes and publishes.

One write is under way at most: a second save waits for the first. What went wrong in the thread is raised where the
training next looks, at its next step. Nothing is given up half way: whoever ends waits for the write (`finish`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Thread

from torch import Tensor

from components.context import Json
from components.errors import HeadwaterError, MachineError
from components.training.checkpoint import Checkpoint, Models, Say, agree_on_checkpoint, save_checkpoint
from components.training.engine import Engine


class Saver:
    """Writes the checkpoints of one training; of use on rank 0, idle on the others.

    Args:
        folder: Where checkpoints live.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def start(
        self,
        step: int,
        models: Models,
        tensors: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Json],
    ) -> None:
        """Begins to write; what it is given is its own from now on. Waits for the write before.

        Raises:
            MachineError: If the write before went wrong.
        """
        self.wait()

        def write() -> None:
            try:
                save_checkpoint(self._folder, step, tensors, state, models)
            except BaseException as error:  # raised again by `check`
                self._error = error

        self._thread = Thread(target=write, name=f"checkpoint of step {step}")
        self._thread.start()

    def check(self) -> None:
        """Raises what went wrong in a write that has ended; waits for nothing."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Waits for the write under way and raises what went wrong in it."""
        self.close()
        self.check()

    def close(self) -> None:
        """Waits for the write under way; for a training that ends with an error of its own."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def newest(self, engine: Engine, say: Say) -> Checkpoint:
        """The newest checkpoint that is whole, once the write under way has ended; collective.

        Raises:
            MachineError: If there is none, or the last could not be written.
        """
        self.finish(engine)
        found = agree_on_checkpoint(engine, self._folder, say)
        if found is None:
            raise MachineError("Training is to go back to a checkpoint, and none is whole.", str(self._folder))
        return found

    def finish(self, engine: Engine) -> None:
        """Waits until what was begun is on disk; collective, so that no rank leaves, and ends the others, before.

        Raises:
            MachineError: If it could not be written.
        """
        failure: BaseException | None = None
        try:
            self.wait()
        except HeadwaterError as error:
            failure = error
        [failed] = engine.sum_over_ranks([float(failure is not None)])
        if failure is not None:
            raise failure
        if failed:
            raise MachineError(
                "Rank 0 could not write the last checkpoint.", str(self._folder), "make room on its disk"
            )
