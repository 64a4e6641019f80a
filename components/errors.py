"""The error family: every failure a user can meet says what happened, where, and how to fix it.

The command line prints these three lines and exits with the class's code; the traceback goes to the step's log file.
Anything that is not a `HeadwaterError` is a defect of ours, shown as such.
"""

from __future__ import annotations

import errno


class HeadwaterError(Exception):
    """A failure told in one sentence.

    Args:
        what: One sentence: what went wrong, with the numbers.
        where: Step, file, key or row that caused it.
        fix: What the user does now, with the exact command or setting where there is one.
    """

    exit_code = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class StepError(HeadwaterError):
    """A step cannot go on because of its data or its settings. Never retried."""


class ConfigError(HeadwaterError):
    """The configuration is refused before anything starts. Never retried."""

    exit_code = 2


class Preempted(HeadwaterError):  # noqa: N818  (a state, not a fault)
    """The step was asked to stop and saved what it had; the next run continues from there."""

    exit_code = 3


class MachineError(HeadwaterError):
    """The machine cannot do it: disk full, missing package, no such cluster."""

    exit_code = 4


def disk_full(error: BaseException | None) -> MachineError | None:
    """The sentence for a full disk, if that lies anywhere behind an error; else None."""
    seen: set[int] = set()  # a raised and re-raised error may be its own context, some way round
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = str(error.filename or "the disk of the output")
            return MachineError("The disk is full.", where, "free some space or write to another disk, and run again")
        error = error.__cause__ or error.__context__
    return None
