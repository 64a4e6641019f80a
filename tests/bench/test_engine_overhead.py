"""What a step that does nothing costs: our engine beside Metaflow, Dagster and Prefect, on the same DAG of 50 steps.

Every engine runs the DAG in its ordinary local mode and a small one of two steps; (t50 - t2) / 48 is what a step costs
without the start of the engine. Rounds are interleaved and the median is taken. Peers are installed from pinned lists
into virtual environments of their own, kept in `~/.cache/headwater/bench`. CPU is that of an engine's processes as far
as they were waited for; ours on Ray is that of the whole cluster, Prefect's is without its server. Run with
`make bench`. Nothing passes or fails by the clock; HEADWATER_BENCH_ROUNDS sets the number of rounds.

What is measured differs in kind, and the table says how: ours and Metaflow's steps are committed to disk one by one,
Dagster's write their events to SQLite, Prefect's report to a server in the background and keep nothing unless told to.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from peer_help import environment_of

PEERS = Path(__file__).parent / "peers"
sys.path.insert(0, str(PEERS))

from engine_help import plan_of, run_recipe  # noqa: E402
from noop import recipe_of  # noqa: E402
from shapes import NUM_STEPS, SHAPES, SMALL, chain  # noqa: E402

from pipelines.engine.store import Store  # noqa: E402

ROUNDS = int(os.environ.get("HEADWATER_BENCH_ROUNDS", "3"))
LIMIT_S = 600
GOAL_MS, GOAL_RATIO, GOAL_PLAN_S, NUM_PLANNED = 50.0, 5.0, 1.0, 1000

Cost = tuple[float, float]
"""Wall and CPU time in seconds."""


@dataclass(frozen=True)
class Engine:
    """One row of the table.

    Attributes:
        name: What it is called.
        keeps: What is on disk after each step.
        run: Runs a shape in an empty folder and returns what it took.
    """

    name: str
    keeps: str
    run: Callable[[str, Path], Cost]


def timed(command: list[str], folder: Path, **variables: str) -> Cost:
    """Runs a peer in a folder; what it prints is in `output.txt` there."""
    home = {"HOME": str(folder), "DAGSTER_HOME": str(folder)}
    quiet = {"DAGSTER_DISABLE_TELEMETRY": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    quiet |= {"METAFLOW_USER": "bench", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(LIMIT_S)}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PEERS), **home, **quiet, **variables}
    with (folder / "output.txt").open("ab") as output:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output, timeout=LIMIT_S)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, (folder / "output.txt").read_text()[-3000:]
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def metaflow(python: str, shape: str, folder: Path) -> Cost:
    subprocess.run([sys.executable, PEERS / "metaflow_flow.py", shape, folder / "flow.py"], check=True)
    return timed([python, "flow.py", "run"], folder)


def dagster(binary: str, executor: str, shape: str, folder: Path) -> Cost:
    command = [binary, "job", "execute", "--python-file", str(PEERS / "dagster_job.py"), "--job", "bench"]
    return timed(command, folder, BENCH_SHAPE=shape, BENCH_EXECUTOR=executor)


def prefect(python: str, options: list[str], shape: str, folder: Path) -> Cost:
    """Keeps its database from run to run, and measures itself once its server is there: ours is warm too."""
    home = str(environment_of("prefect") / "home")
    timed([python, str(PEERS / "prefect_flow.py"), shape, *options], folder, PREFECT_HOME=home)
    lines = (folder / "output.txt").read_text().splitlines()
    _, wall, cpu = next(line for line in lines if line.startswith("took ")).split()
    return float(wall), float(cpu)


def ours(kind: str, shape: str, folder: Path) -> Cost:
    """Plans and runs the shape in a new store."""
    clock = cluster_cpu if kind == "local" else time.process_time
    recipe, store = recipe_of(SHAPES[shape]), Store(folder / "store")
    before, began = clock(), time.perf_counter()
    status = run_recipe(recipe, store, kind)
    cost = time.perf_counter() - began, clock() - before
    assert {step.state for step in status.steps.values()} == {"done"}
    return cost


def cluster_cpu() -> float:
    """CPU seconds so far of this process and all below it: on Ray, of the whole cluster."""
    parents, seconds = dict[int, int](), dict[int, float]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        parents[int(path.parent.name)] = int(words[1])
        seconds[int(path.parent.name)] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return sum(took for pid, took in seconds.items() if _below(pid, parents))


def _below(pid: int, parents: Mapping[int, int]) -> bool:
    while pid and pid != os.getpid():
        pid = parents.get(pid, 0)
    return pid != 0


@contextmanager
def warm_ray() -> Iterator[None]:
    """A cluster of two cores whose workers have run the step before."""
    import ray

    from pipelines.engine.cluster import ClusterConfig
    from pipelines.engine.remote import connect

    os.environ["PYTHONPATH"] = os.pathsep.join([str(PEERS), os.environ.get("PYTHONPATH", "")])
    connect(ClusterConfig(kind="local", num_cpus=2, num_gpus=0, object_store_mib=128))
    try:
        with tempfile.TemporaryDirectory() as folder:
            ours("local", "wide", Path(folder))
        yield
    finally:
        ray.shutdown()


def engines() -> list[Engine]:
    python = {peer: str(environment_of(peer) / "bin" / "python") for peer in ("metaflow", "dagster", "prefect")}
    binary = str(Path(python["dagster"]).with_name("dagster"))
    return [
        Engine("ours, Ray", "committed artifact, events", lambda *place: ours("local", *place)),
        Engine("ours, in process", "committed artifact, events", lambda *place: ours("inprocess", *place)),
        Engine("Prefect, in process", "nothing", lambda *place: prefect(python["prefect"], [], *place)),
        Engine("Prefect, results kept", "results", lambda *place: prefect(python["prefect"], ["keep"], *place)),
        Engine("Dagster, in process", "events in SQLite", lambda *place: dagster(binary, "in_process", *place)),
        Engine("Metaflow, local", "artifacts, metadata", lambda *place: metaflow(python["metaflow"], *place)),
        Engine("Dagster, multiprocess", "events in SQLite", lambda *place: dagster(binary, "multiprocess", *place)),
    ]


def measured(engine: Engine, shape: str) -> Cost:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        wall, cpu = engine.run(shape, Path(folder))
    print(f"{engine.name}, {shape}: {wall:.2f} s, CPU {cpu:.2f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    return wall, cpu


def per_step(costs: Mapping[tuple[str, str], list[Cost]], name: str, shape: str, part: int) -> float:
    """Milliseconds that one step adds: median over the rounds."""
    pairs = zip(costs[name, shape], costs[name, "small"], strict=True)
    return statistics.median(1000 * (large[part] - small[part]) / (NUM_STEPS - SMALL) for large, small in pairs)


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_overhead_of_a_step_beside_metaflow_dagster_and_prefect() -> None:
    rows = engines()
    costs: dict[tuple[str, str], list[Cost]] = {(row.name, shape): [] for row in rows for shape in SHAPES}
    with warm_ray():
        for row in rows:
            measured(row, "small")  # what a first run sets up does not count
        for _ in range(ROUNDS):
            for row in rows:
                for shape in SHAPES:
                    costs[row.name, shape].append(measured(row, shape))
    print(f"\nload {os.getloadavg()[0]:.1f}, median of {ROUNDS} rounds, ms per step (wall / CPU)")
    print(f"{'':24}{'chain of 50':>20}{'2 x 23 wide':>20}   on disk after a step")
    for row in rows:
        cells = [
            f"{per_step(costs, row.name, s, 0):8.1f} /{per_step(costs, row.name, s, 1):8.1f}"
            for s in SHAPES
            if s != "small"
        ]
        print(f"{row.name:24}{cells[0]:>20}{cells[1]:>20}   {row.keeps}")
    for shape in ("chain", "wide"):
        own = per_step(costs, rows[0].name, shape, 0)
        timed_peers = [row for row in rows[2:] if not row.name.startswith("Prefect")]
        ratios = [f"{row.name} {per_step(costs, row.name, shape, 0) / own:.1f}" for row in timed_peers]
        print(f"{shape}: ours on Ray {own:.1f} ms (goal under {GOAL_MS:.0f}); times ours: {', '.join(ratios)}", end="")
        print(
            f" (goal {GOAL_RATIO:.0f}); a Prefect flow takes about a second whether it has 2 tasks or 50: see its CPU"
        )


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_plan_of_a_thousand_cached_steps(tmp_path: Path) -> None:
    recipe, store = recipe_of(chain(NUM_PLANNED)), Store(tmp_path / "store")
    run_recipe(recipe, store)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        plan = plan_of(recipe_of(chain(NUM_PLANNED)), store)
        times.append(time.perf_counter() - began)
        assert plan.to_run == ()
    print(f"\nplan of {NUM_PLANNED} cached steps: {min(times):.2f} s, median {statistics.median(times):.2f} s", end="")
    print(f" (goal under {GOAL_PLAN_S:.0f} s); load {os.getloadavg()[0]:.1f}")
