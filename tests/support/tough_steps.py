"""Steps that make life hard for the engine: equal bytes from other inputs, little memory, silence, many items."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.configuring import runtime
from components.context import Context, Json, Metrics
from components.errors import Preempted, StepError

VERSION = 1


@dataclass(frozen=True)
class Batch:
    """A batch of which only the pieces may change."""

    size: int = 8
    micro: int = runtime(8)

    def with_less_memory(self) -> Batch | None:
        """Half the pieces."""
        return replace(self, micro=self.micro // 2) if self.micro > 1 else None


@dataclass(frozen=True)
class ToughConfig:
    """Settings of all steps here."""

    text: str = ""
    count: int = 1
    fits: int = runtime(8)
    batch: Batch = field(default_factory=Batch)


def letters(ctx: Context, config: ToughConfig) -> Metrics:
    """Writes as many letters as asked for, at most three."""
    (ctx.output / "letters.txt").write_text("x" * min(3, config.count))
    return {}


def follows(ctx: Context, config: ToughConfig, left: Path) -> Metrics:
    """Copies its input and leaves a mark outside each time that it runs."""
    if config.text:
        with open(config.text, "a") as file:
            file.write("ran\n")
    (ctx.output / "letters.txt").write_bytes((left / "letters.txt").read_bytes())
    return {}


def dice(ctx: Context, config: ToughConfig) -> Metrics:
    """Writes something else each time."""
    (ctx.output / "letters.txt").write_text(os.urandom(8).hex())
    return {}


def hungry(ctx: Context, config: ToughConfig) -> Metrics:
    """Runs out of memory until its pieces fit."""
    if config.batch.micro > config.fits:
        raise MemoryError
    (ctx.output / "size.txt").write_text(str(config.batch.size))
    return {"micro": config.batch.micro}


def silent(ctx: Context, config: ToughConfig) -> Metrics:
    """Says nothing for a long time, the first time."""
    mark = ctx.scratch / "tried"
    if not mark.exists():
        mark.touch()
        time.sleep(600)
    return {}


def talkative(ctx: Context, config: ToughConfig) -> Metrics:
    """Talks for ever, and saves when it is stopped."""
    count = 0
    while not ctx.should_stop():
        count += 1
        ctx.progress(count, None, "words")
        time.sleep(0.02)
    (ctx.scratch / "saved").write_text(str(count))
    raise Preempted("Stopped while talking.", "talkative", "run again")


def obedient(ctx: Context, config: ToughConfig) -> Metrics:
    """Counts until a file says that it is enough; saves and stops when asked to; leaves its process id."""
    path = ctx.scratch / "count"
    start = int(path.read_text()) if path.exists() else 0
    with open(f"{config.text}.pids", "a") as file:
        file.write(f"{os.getpid()}\n")
    for number in range(start, config.count):
        if Path(f"{config.text}.enough").exists():
            break
        if ctx.channel.take_save():  # type: ignore[attr-defined]
            path.write_text(str(number))
            Path(f"{config.text}.saved").write_text(str(number))
        if ctx.should_stop():
            path.write_text(str(number))
            raise Preempted("Stopped while counting.", "obedient", "run again")
        ctx.progress(number + 1, config.count, "numbers")
        time.sleep(0.02)
    (ctx.output / "count.txt").write_text(str(config.count))
    return {"pid": os.getpid(), "started_at": start}


def edits_code(ctx: Context, config: ToughConfig) -> Metrics:
    """Changes a source file while the run is going."""
    with open(config.text, "a") as file:
        file.write("\n\nADDED = 1\n")
    return {}


def lists(ctx: Context, config: ToughConfig) -> Metrics:
    """Lists the numbers up to its count as items."""
    lines = [json.dumps(number) for number in range(config.count)]
    (ctx.output / "items.jsonl").write_text("\n".join(lines) + "\n")
    return {}


def scores(ctx: Context, config: ToughConfig, item: Json, left: Path | None = None) -> Metrics:
    """Squares a number and leaves a mark outside; refuses the numbers that a file outside names."""
    with open(f"{config.text}.ran", "a") as file:
        file.write(f"{item}\n")
    bad = Path(f"{config.text}.bad")
    if bad.exists() and str(item) in bad.read_text().split():
        raise StepError(f"Item {item} is bad.", str(item), "take another")
    assert isinstance(item, int)
    (ctx.output / "square.txt").write_text(str(item * item))
    return {"square": item * item}
