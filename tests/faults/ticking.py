"""A tracked run of one step that logs every 20 ms, in a process of its own.

Started with `python -c "import ticking; ticking.main()" ARGUMENTS`; the step must not belong to `__main__`.
The step notes when each of its log calls began and how long it took, and an audit hook of the interpreter counts what
its process asks of the network. Arguments: run folder, store, tracking settings as JSON, the file that ends the step.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from components.context import Context, Metrics
from components.publish import publish_bytes, publish_json
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.plan import make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mlflow_sink import tracked

VERSION = 1
PERIOD_S = 0.02
LONGEST_S = 900.0
NETWORK = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")

network_calls: list[str] = []


@dataclass(frozen=True)
class TickConfig:
    """Settings of the step.

    Attributes:
        until: The step ends when this file appears.
    """

    until: str = ""


def tick(ctx: Context, config: TickConfig) -> Metrics:
    """Logs two metrics every 20 ms."""
    calls: list[tuple[float, float]] = []
    began = time.monotonic()
    while not Path(config.until).exists():
        assert time.monotonic() - began < LONGEST_S, "nobody ended the step"
        step, before = len(calls) + 1, time.perf_counter()
        ctx.log({"loss": 1.0 / step, "rate": 2.0 * step}, step)
        calls.append((time.time(), time.perf_counter() - before))
        time.sleep(max(0.0, began + step * PERIOD_S - time.monotonic()))
    (ctx.output / "calls.json").write_text(json.dumps(calls))
    return {"ticks": len(calls), "network_calls": len(network_calls)}


def main() -> None:
    """Drives the run to its end."""
    sys.addaudithook(lambda event, _: network_calls.append(event) if event in NETWORK else None)
    folder, store, config = Path(sys.argv[1]), Path(sys.argv[2]), TrackingConfig(**json.loads(sys.argv[3]))
    recipe = Recipe("ticking")
    recipe.step(tick, TickConfig(sys.argv[4]))
    plan = make_plan(recipe.steps, Store(store))
    publish_bytes(folder / "config.yaml", json.dumps({"tick": asdict(TickConfig(sys.argv[4]))}).encode())
    publish_json(folder / "plan.json", plan.to_json())
    record = {"id": folder.name, "recipe": "ticking", "preset": "tiny", "command": "", "overrides": [], "git": {}}
    publish_json(folder / "run.json", {**record, "created": time.time()})
    with tracked(folder, config, store):
        status = execute(plan, Store(store), folder, ClusterConfig(kind="inprocess"), threading.Event())
    print(status.state, flush=True)
