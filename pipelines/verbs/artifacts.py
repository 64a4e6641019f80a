"""The verbs of the artifact store: ls, show, verify, pin, unpin, adopt and gc; and how a person names an artifact.

An artifact is named as STEP (as the newest run has it), STEP@KEY with the first characters of its key, RUN:STEP, or
the path or URL of its folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from components.errors import ConfigError, MachineError
from pipelines.archive import unpack
from pipelines.config import Settings, load_settings
from pipelines.engine.adopt import adopt
from pipelines.engine.events import DRIVER_LOCK
from pipelines.engine.gc import DAY_S, LOCK, Item, Roots, Sweep, apply, name_of, sweep
from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.lock import is_held, try_lock
from pipelines.engine.manifest import Manifest
from pipelines.engine.pins import pin, pins, unpin, user
from pipelines.engine.store import Store
from pipelines.runs import all_runs, find_run
from pipelines.verbs.planning import duration, open_store, plan_of

PLURALS = {"artifact": "artifacts", "attempt": "attempts", "scratch": "scratches", "copy": "copies", "rest": "rests"}
SWEEPS = 5
"""How often gc looks again because a run began meanwhile."""
STARTING_S = 60.0
"""How long a run may take from its plan to its first event."""
RunMark: TypeAlias = tuple[str, int, bool]
"""Name of a run, when its plan was written, whether a driver is at work on it."""


def artifacts(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Does what `options.action` names.

    Returns:
        The exit code: 1 if verification found damage, else 0.
    """
    settings = load_settings(overrides)
    actions = {
        "ls": _ls,
        "show": _show,
        "verify": _verify,
        "pin": _pin,
        "unpin": _unpin,
        "gc": _gc,
        "adopt": _adopt,
    }
    return actions[options.action](settings, options)


def _ls(settings: Settings, options: argparse.Namespace) -> int:
    store = open_store(settings)
    rows = [row for row in _rows(store, options.step) if options.all or row["state"].startswith("current")]
    if options.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    now = time.time()
    for row in rows:
        age, size = duration(max(0.0, now - float(row["committed"]))), in_bytes(int(row["bytes"]))
        print(
            f"{row['step']:<13} {row['key'][:KEY_CHARS]}  epoch {row['epoch']}  {size:>9}  {age:>7} ago"
            f"  run {row['run']}  {row['state']}"
        )
    if not rows:
        print(f"no artifacts{f' of {options.step}' if options.step else ''} in {settings.store}")
    return 0


def _rows(store: Store, step: str | None) -> list[dict[str, Any]]:
    pinned = {(found.step, found.key, found.epoch): found.name for found in pins(store)}
    rows, newest = [], set[tuple[str, str]]()
    for made in sorted(store.manifests(step), key=lambda made: (made.step, made.key, -made.epoch)):
        states = ["superseded" if (made.step, made.key) in newest else "current"]
        if store.missing(made):
            states = [store.missing(made)]
        else:
            newest.add((made.step, made.key))
        if made.origin is not None:
            of = f" of {made.origin.step}@{made.origin.key[:KEY_CHARS]}" if made.origin.step else ""
            states.append(f"{made.origin.kind}{of}")
        if (made.step, made.key, made.epoch) in pinned:
            states.append(f"pinned as {pinned[made.step, made.key, made.epoch]}")
        rows.append(_record(made) | {"state": ", ".join(states)})
    return rows


def _record(made: Manifest) -> dict[str, Any]:
    return {
        "step": made.step,
        "key": made.key,
        "epoch": made.epoch,
        "bytes": made.num_bytes,
        "committed": made.committed,
        "run": made.run,
    }


def _show(settings: Settings, options: argparse.Namespace) -> int:
    store = open_store(settings)
    made = find_artifact(store, options.artifact)
    if options.json:
        print(made.to_bytes().decode())
        return 0
    print("\n".join(_sheet(store, made)))
    return 0


def _sheet(store: Store, made: Manifest) -> Iterator[str]:
    yield f"{name_of(made)}: {len(made.files)} files, {in_bytes(made.num_bytes)}, in {store.root.url}/{made.data}"
    yield f"  key      {made.key}"
    yield f"  content  {made.content}"
    yield f"  made by  run {made.run} in {duration(made.seconds)}, committed {_moment(made.committed)}"
    if made.origin is not None:
        source = f" {made.origin.step}@{made.origin.key[:KEY_CHARS]}" if made.origin.step else ""
        by = f" by {made.origin.by}" if made.origin.by else ""
        yield f"  origin   {made.origin.kind}{source}{by}: {made.origin.reason or 'no reason given'}"
    for name, record in made.inputs.items():
        yield f"  input    {name}: {record.step}@{record.key[:KEY_CHARS]}"
    for name, value in made.identity.items():
        yield f"  config   {name} = {json.dumps(value, ensure_ascii=False)}"
    for name, metric in made.metrics.items():
        yield f"  metric   {name} = {metric:g}"
    for name, file in made.files.items():
        yield f"  file     {name}  {in_bytes(file.bytes)}  {file.sha256[:KEY_CHARS]}"


def _verify(settings: Settings, options: argparse.Namespace) -> int:
    store = open_store(settings)
    found = [find_artifact(store, name) for name in options.artifacts] or list(store.manifests())
    by_data = {made.data: made for made in found}  # artifacts that share files are read once
    damaged = {name_of(made): store.damaged(made) for made in by_data.values()}
    num_files = sum(len(files) for files in damaged.values())
    if options.json:
        print(json.dumps({"artifacts": len(by_data), "damaged": {k: v for k, v in damaged.items() if v}}))
        return 1 if num_files else 0
    for name, files in damaged.items():
        for file in files:
            print(f"damaged: {name} {file}")
    print(f"{len(by_data)} artifacts read, {num_files} files damaged.")
    return 1 if num_files else 0


def _pin(settings: Settings, options: argparse.Namespace) -> int:
    store = open_store(settings)
    made = pin(store, find_artifact(store, options.artifact), options.name, options.reason)
    print(json.dumps(asdict(made)) if options.json else f"pinned {made.step}@{made.key[:KEY_CHARS]} as {made.name}")
    return 0


def _unpin(settings: Settings, options: argparse.Namespace) -> int:
    unpin(open_store(settings), options.name)
    print(json.dumps({"unpinned": options.name}) if options.json else f"unpinned {options.name}")
    return 0


def _adopt(settings: Settings, options: argparse.Namespace) -> int:
    store, plan = plan_of(settings)
    if options.step not in plan:
        known = ", ".join(entry.name for entry in plan.entries)
        raise ConfigError(f"there is no step {options.step}.", f"adopt {options.step}", f"the steps are {known}")
    made = adopt(plan[options.step], store, Path(options.folder), user(), options.reason)
    name = f"adopted-{made.step}-{made.key[:KEY_CHARS]}-{made.epoch}"
    pin(store, made, name, options.reason)  # no run can make it again
    if options.json:
        print(json.dumps(_record(made) | {"pin": name}))
    else:
        print(f"adopted {len(made.files)} files as {name_of(made)}, pinned as {name}")
    return 0


def _gc(settings: Settings, options: argparse.Namespace) -> int:
    from pipelines.tracking.registered import registered

    if options.keep_runs < 0 or options.older_than < 0:
        raise ConfigError("gc keeps no negative number.", "--keep-runs, --older-than", "give 0 or more")
    store = open_store(settings)
    roots = Roots((), registered(settings.tracking, store.workspace), options.older_than * DAY_S)
    for _ in range(SWEEPS):
        _bring_archived(store, options.keep_runs)
        before = _run_marks(store)
        planned = sweep(store, replace(roots, runs=_kept_runs(store, options.keep_runs)))
        if options.apply and planned.strangers:
            raise MachineError(
                f"Run {planned.strangers[0]} is building an artifact, and what else it needs is not known here.",
                f"workspace={store.workspace}",
                "run gc in the workspace of that run, or when it has ended",
            )
        done = options.apply and apply(store, planned, partial(_nothing_begins, store, before))
        if done or not options.apply:
            break
        print("a run began meanwhile: looking again")
    else:
        raise MachineError("gc stopped: runs begin faster than it can look.", "gc --apply", "try again later")
    if options.json:
        print(json.dumps({"applied": done, "bytes": planned.num_bytes, **_sweep_record(planned)}, ensure_ascii=False))
    else:
        print("\n".join(_sweep_lines(planned, options.apply, roots.registered is None)))
    return 0


def _bring_archived(store: Store, keep_runs: int) -> None:
    """Runs that were driven from another workspace have left their records in the store; here they count too."""
    written = {} if store.is_local else store.root.changed("runs", depth=1)
    for name in sorted(written, key=lambda name: written[name], reverse=True)[:keep_runs]:
        run = name.removesuffix(".tar.gz")
        if not (store.run_folder(run) / "plan.json").is_file():
            unpack(store, run)


def _kept_runs(store: Store, keep_runs: int) -> list[Path]:
    """The newest runs, and older ones whose driver is at work or about to be."""
    runs = [folder for folder in all_runs(store.workspace) if (folder / "plan.json").is_file()]
    return runs[:keep_runs] + [folder for folder in runs[keep_runs:] if _is_alive(folder)]


def _is_alive(run_folder: Path) -> bool:
    if is_held(run_folder / DRIVER_LOCK):
        return True
    planned = (run_folder / "plan.json").stat().st_mtime
    spoken = max((path.stat().st_mtime for path in (run_folder / "events").glob("*.json")), default=0.0)
    return spoken <= planned and time.time() - planned < STARTING_S


def _run_marks(store: Store) -> set[RunMark]:
    """What changes when a run begins or goes on: its plan is written, its driver takes the lock."""
    plans = (store.workspace / "runs").glob("*/plan.json")
    return {(plan.parent.name, plan.stat().st_mtime_ns, is_held(plan.parent / DRIVER_LOCK)) for plan in plans}


@contextmanager
def _nothing_begins(store: Store, marks: set[RunMark]) -> Iterator[bool]:
    """Yields whether no run has begun since the marks were taken; none begins meanwhile."""
    with try_lock(store.workspace / LOCK) as is_quiet:
        yield is_quiet and _run_marks(store) == marks


def _sweep_lines(planned: Sweep, is_applied: bool, is_blind: bool) -> Iterator[str]:
    for item in planned.keep:
        yield f"keep    {in_bytes(item.num_bytes):>9}  {item.name}: {item.why}"
    for item in planned.delete:
        yield f"delete  {in_bytes(item.num_bytes):>9}  {item.name}: {item.why}"
    kinds = Counter(item.kind for item in planned.delete)
    what = ", ".join(f"{count} {PLURALS[kind] if count > 1 else kind}" for kind, count in kinds.items()) or "nothing"
    if is_blind:
        yield "MLflow does not answer, so no model is deleted: it may be the one in use."
    if is_applied:
        yield f"deleted {what}: {in_bytes(planned.num_bytes)} freed, {len(planned.keep)} artifacts kept."
    else:
        yield f"would delete {what}: {in_bytes(planned.num_bytes)}. `headwater artifacts gc --apply` does it."


def _sweep_record(planned: Sweep) -> dict[str, list[dict[str, object]]]:
    def record(item: Item) -> dict[str, object]:
        return {"kind": item.kind, "name": item.name, "bytes": item.num_bytes, "why": item.why, "place": item.place}

    return {"delete": [record(item) for item in planned.delete], "keep": [record(item) for item in planned.keep]}


def in_bytes(num_bytes: int) -> str:
    """A size in the unit a person would choose."""
    size, units = float(num_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def find_artifact(store: Store, name: str) -> Manifest:
    """The artifact that a person means.

    Args:
        store: Where to look.
        name: STEP, STEP@KEY, RUN:STEP or a path, see the module.

    Raises:
        ConfigError: If there is none, or more than one.
    """
    if "/" in name:
        return _at_path(store, name)
    run, colon, step = name.partition(":")
    if colon:
        return _of_run(store, find_run(store.workspace, run), step)
    step, at, key = name.partition("@")
    return _by_key(store, step, key) if at else _newest(store, step)


def key_in_run(run_folder: Path, step: str) -> str | None:
    """The recipe key that a step has in a run; None if the run has no such step."""
    plan = json.loads((run_folder / "plan.json").read_text(encoding="utf-8"))
    return next((str(entry["key"]) for entry in plan["steps"] if entry["name"] == step), None)


def _newest(store: Store, step: str) -> Manifest:
    for folder in all_runs(store.workspace):
        key = key_in_run(folder, step)
        made = store.lookup(step, key).manifest if key else None
        if made is not None:
            return made
    made = store.newest(step)  # made outside of runs, or by runs whose folders are gone
    if made is None:
        raise ConfigError(f"there is no artifact of a step {step}.", step, _steps_with_artifacts(store))
    return made


def _of_run(store: Store, folder: Path, step: str) -> Manifest:
    key = key_in_run(folder, step)
    if key is None:
        raise ConfigError(f"run {folder.name} has no step {step}.", f"{folder.name}:{step}", "headwater status")
    found = store.lookup(step, key)
    if found.manifest is None:
        why = found.problem or "it was not made yet"
        raise ConfigError(f"run {folder.name} has no artifact of step {step}: {why}.", key[:KEY_CHARS], "headwater run")
    return found.manifest


def _by_key(store: Store, step: str, prefix: str) -> Manifest:
    keys = sorted({made.key for made in store.manifests(step) if made.key.startswith(prefix)})
    if len(keys) > 1:
        shown = ", ".join(key[:KEY_CHARS] for key in keys[:5])
        raise ConfigError(f"{len(keys)} keys of {step} begin with '{prefix}'.", f"{step}@{prefix}", f"one of {shown}")
    found = store.lookup(step, keys[0]) if keys else None
    if found is None or found.manifest is None:
        why = found.problem if found else "no key begins so"
        raise ConfigError(f"there is no artifact {step}@{prefix}: {why}.", step, f"headwater artifacts ls {step}")
    return found.manifest


def _at_path(store: Store, path: str) -> Manifest:
    """The epoch whose folder, record or file a path names; the usable one if it names a key's folder."""
    parts = path.rstrip("/").split("/")
    below = parts[len(parts) - parts[::-1].index("artifacts") :] if "artifacts" in parts else []
    if len(below) >= 2:
        epoch = below[2].partition(".")[0] if len(below) > 2 else ""
        for made in _newest_first(store, below[0]):
            if made.key.startswith(below[1][:KEY_CHARS]) and epoch in ("", f"{made.epoch:06d}"):
                return made
    raise ConfigError(
        f"there is no artifact at {path}.", f"store={store.root.url}", "name STEP, STEP@KEY, RUN:STEP or its folder"
    )


def _newest_first(store: Store, step: str) -> Iterator[Manifest]:
    return iter(sorted(store.manifests(step), key=lambda made: (made.key, made.epoch), reverse=True))


def _steps_with_artifacts(store: Store) -> str:
    steps = store.root.children("artifacts")
    return f"steps with artifacts: {', '.join(steps)}" if steps else "headwater run"
