"""A step that is spread over items: every item is an artifact of its own, and the step's output gathers them.

Items are keyed by their digest, not by their place in a list, so adding, removing or reordering some runs only what is
new. An item that fails is written down and the others go on; when enough have succeeded the output is made without
it, and a later run tries it again. The items' artifacts are committed one by one under `<step>.item`, so a run that is
cut off loses only the items it was at.

The gathered folder holds hard links to the items' files, not copies: artifacts never change, so two names for one file
do no harm, and a sweep of a thousand models takes its space once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from components.context import Context, Json, LocalContext, Metrics
from components.errors import HeadwaterError, Preempted, StepError
from pipelines.engine.identity import KEY_CHARS, canonical_json, recipe_key
from pipelines.engine.lease import Lease, LeaseLost
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Store

ITEMS = "items.jsonl"
SHARE_POLL_S = 0.2
SHARE_DEADLINE_S = 24 * 3600.0


@dataclass(frozen=True)
class ItemWork:
    """What it takes to make the artifact of any item of a step.

    Attributes:
        store: Root of the store.
        workspace: Workspace of the store.
        draft: Manifest of the step itself; an item's differs in name, key and item.
        fn: The function.
        config: Its config.
        inputs: Folders of its inputs.
        context: Context of the step, whose channel and seeds the items share.
        lease_s: Time without a heartbeat after which an item may be taken over.
    """

    store: str
    workspace: str
    draft: Manifest
    fn: object
    config: object
    inputs: Mapping[str, Path]
    context: LocalContext
    lease_s: float


@dataclass(frozen=True)
class ItemResult:
    """How one item went: the key of its artifact, or the error; `made` tells if it was made now."""

    digest: str
    key: str
    error: str = ""
    made: bool = False


def digest_of(item: Json) -> str:
    """Digest of an item, 64 hex characters."""
    return hashlib.sha256(canonical_json(item)).hexdigest()


def read_items(folder: Path, step: str) -> list[Json]:
    """The items that an input lists.

    Raises:
        StepError: If there is no list, a line is no JSON, or two items are equal.
    """
    path = folder / ITEMS
    if not path.is_file():
        raise StepError(f"The input of {step} lists no items.", str(path), f"write {ITEMS}, one JSON value a line")
    items: list[Json] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            items.append(json.loads(line))
        except ValueError:
            raise StepError(f"Line {number} is no JSON.", f"{path}:{number}", "write one JSON value a line") from None
    if len({digest_of(item) for item in items}) < len(items):
        raise StepError(f"Two items of {step} are equal.", str(path), "list each item once")
    return items


def spread(ctx: Context, work: ItemWork, items: Sequence[Json], min_success: float) -> Metrics:
    """Makes what is missing of the items and gathers all of them in the step's output.

    Args:
        ctx: Context of the step.
        work: What it takes to make an item.
        items: The items.
        min_success: Share of them that must succeed.

    Raises:
        StepError: If too few succeeded; it names the first that failed.
        Preempted: If the run was asked to stop.
    """
    step = work.draft.step
    results = ctx.map(partial(make_item, work), list(items))
    failed = [(item, result) for item, result in zip(items, results, strict=True) if result.error]
    num_done = len(results) - len(failed)
    ctx.progress(num_done, len(results), "items", f"failed {len(failed)}")
    if num_done < min_success * len(results):
        item, result = failed[0]
        raise StepError(
            f"{len(failed)} of {len(results)} items of {step} failed, {min_success:.0%} must succeed: {result.error}",
            f"step {step}, item {json.dumps(item, ensure_ascii=False)[:80]}",
            f"headwater logs {step}; only what failed runs again",
        )
    _gather(ctx.output, work, items, results)
    made = sum(result.made for result in results)
    return {"items": len(results), "failed": len(failed), "made": made, "kept": num_done - made}


def make_item(work: ItemWork, item: Json) -> ItemResult:
    """Makes the artifact of one item unless it is there; what the function raises becomes the result's error.

    Raises:
        Preempted: If the run was asked to stop.
    """
    digest = digest_of(item)
    store, draft = Store(work.store, work.workspace), _draft_of(work.draft, item, digest)
    deadline = time.monotonic() + SHARE_DEADLINE_S
    while True:
        found = store.lookup(draft.step, draft.key)
        if found.manifest is not None and found.manifest.content_key == draft.content_key:
            return ItemResult(digest, draft.key)
        lease = store.acquire(draft.step, draft.key, draft.run, work.lease_s)
        if isinstance(lease, Lease):
            break
        if time.monotonic() > deadline:
            return ItemResult(digest, draft.key, "another run has been making it for a day")
        time.sleep(SHARE_POLL_S)  # another run makes it: share what comes out
    return _build(work, item, store, lease, draft)


def _build(work: ItemWork, item: Json, store: Store, lease: Lease, draft: Manifest) -> ItemResult:
    started, digest = time.time(), digest_of(item)
    lease.start_beating(lambda: None)
    output = store.begin(lease)
    scratch = store.scratch(draft.step, draft.key)
    base = work.context
    context = LocalContext(f"{base.step}/{digest[:KEY_CHARS]}", output, scratch, base.channel, base.base_seed)
    try:
        metrics = work.fn(context, work.config, item, **work.inputs)  # type: ignore[operator]
        seconds = round(time.time() - started, 3)
        store.commit(lease, output, replace(draft, started=round(started, 3), seconds=seconds, metrics=dict(metrics)))
    except Preempted:
        store.discard(lease, output, "the run was asked to stop")
        raise
    except LeaseLost:
        store.discard(lease, output, "the lease was lost")
        return make_item(work, item)
    except Exception as error:
        store.discard(lease, output, "the item failed")
        print(f"item {json.dumps(item, ensure_ascii=False)[:200]} failed: {type(error).__name__}: {error}", flush=True)
        return ItemResult(digest, draft.key, _sentence(error))
    return ItemResult(digest, draft.key, made=True)


def _sentence(error: Exception) -> str:
    if isinstance(error, HeadwaterError):
        return error.what
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _draft_of(draft: Manifest, item: Json, digest: str) -> Manifest:
    """The draft of an item: keyed by the step's settings, its inputs and the item; other items play no part."""
    identity = {**{name: value for name, value in draft.identity.items() if name != "fan_out"}, "item": item}
    code = draft.code_digest if draft.code_policy == "rerun" else None
    keys = {name: record.key for name, record in draft.inputs.items() if name != "over"}
    bytes_of = {name: f"bytes:{record.content}" for name, record in draft.inputs.items() if name != "over"}
    return replace(
        draft,
        step=f"{draft.step}.item",
        key=recipe_key(draft.step, draft.version, identity, keys, code),
        content_key=recipe_key(draft.step, draft.version, identity, bytes_of, code),
        identity=identity,
        inputs={name: record for name, record in draft.inputs.items() if name != "over"},
        config={**draft.config, "item": item, "item_digest": digest},
    )


def _gather(output: Path, work: ItemWork, items: Sequence[Json], results: Sequence[ItemResult]) -> None:
    store = Store(work.store, work.workspace)
    lines = []
    for item, result in sorted(zip(items, results, strict=True), key=lambda pair: pair[1].digest):
        state = "failed" if result.error else "done"
        line = {"item": item, "digest": result.digest, "state": state, "error": result.error}
        lines.append(json.dumps(line, sort_keys=True, ensure_ascii=False))
        if not result.error:
            manifest = store.lookup(f"{work.draft.step}.item", result.key).manifest
            if manifest is None:
                raise StepError("The artifact of an item vanished.", f"step {work.draft.step}", "run again")
            folder = output / result.digest[:KEY_CHARS]
            shutil.copytree(store.fetch(manifest), folder, copy_function=_link)
    (output / ITEMS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
