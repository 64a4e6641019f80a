"""Garbage collection: which artifacts nothing needs any more, and how they are deleted.

What keeps an artifact: a run among the newest or one that is alive, a pin, an alias of the model registry, a live
lease, its age if one is asked for; and then, from each of these, everything it was made of and the artifact whose
files it shares. Whatever is left is listed with its size first, and deleted only on request.

Deleting writes a `collected` record over the artifact's decision, then looks whether anybody has come to share the
files meanwhile, and removes them last. A crash in between leaves files that nobody refers to, for the next collection;
the epoch stays decided, so it is never given out again, and the plan can say that the artifact was deleted, and when.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.lease import Holder, Seen, decision, ending, look
from pipelines.engine.lock import hold_shared
from pipelines.engine.manifest import Manifest
from pipelines.engine.pins import pins
from pipelines.engine.root import Folder
from pipelines.engine.store import Store, ending_of, place_of

DAY_S = 86_400.0
LOCK = "gc.lock"
"""In the workspace; shared by runs that begin, held alone by a collection for the moment of each deletion."""
Id: TypeAlias = tuple[str, str, int]
"""Step, key and epoch."""


@dataclass(frozen=True)
class Item:
    """One thing that was looked at.

    Attributes:
        kind: "artifact"; "attempt": files of an epoch that published nothing; "scratch" of a key that is built;
            "copy" of files that lie in an object store; "rest" of a write that was cut off.
        name: Its name for people.
        num_bytes: What deleting it frees.
        why: Why it goes or stays.
        place: Its name in the store, or its path in the workspace for scratch and copies.
        made: The manifest of an artifact.
    """

    kind: Literal["artifact", "attempt", "scratch", "copy", "rest"]
    name: str
    num_bytes: int
    why: str
    place: str
    made: Manifest | None = None


@dataclass(frozen=True)
class Sweep:
    """What a collection would delete, and what it keeps.

    Attributes:
        delete: What goes.
        keep: Artifacts that stay.
        strangers: Runs that are building something and have no plan in this workspace: what they need is unknown.
    """

    delete: tuple[Item, ...]
    keep: tuple[Item, ...]
    strangers: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """What deleting frees."""
        return sum(item.num_bytes for item in self.delete)


@dataclass(frozen=True)
class Roots:
    """What keeps artifacts from outside the store.

    Attributes:
        runs: Folders of the runs whose artifacts stay.
        registered: Recipe keys and paths that aliases of the model registry stand for; None if it cannot be asked, and
            then no model is deleted.
        younger_than_s: Artifacts that were committed less than so many seconds ago stay.
    """

    runs: Sequence[Path] = ()
    registered: frozenset[str] | None = frozenset()
    younger_than_s: float = 0.0


def sweep(store: Store, roots: Roots, now: float | None = None) -> Sweep:
    """Looks at everything in a store and says what goes and what stays, and why.

    Args:
        store: The store.
        roots: What keeps artifacts.
        now: Unix time; that of the call if None.
    """
    moment = time.time() if now is None else now
    census = _take_census(store)
    kept = _kept(store, census, roots, moment)
    used = {made.data for made in census.manifests if _id(made) in kept}
    delete: list[Item] = []
    keep: list[Item] = []
    for made in census.manifests:
        own = made.data == _folder(made.step, made.key, made.epoch) and made.data not in used
        why = kept.get(_id(made)) or _uselessness(made, census)
        item = Item("artifact", name_of(made), made.num_bytes if own else 0, why, made.data, made)
        (keep if _id(made) in kept else delete).append(item)
    delete += _attempts(store, census)
    delete += _scratch(store, census)
    delete += _copies(store, [made for made in census.manifests if _id(made) in kept], moment)
    delete += _rests(store, census, moment)
    strangers = [run for run in sorted(set(census.held.values())) if not _has_plan(store.run_folder(run))]
    return Sweep(tuple(delete), tuple(keep), tuple(strangers))


def uncollected(workspace: Path) -> AbstractContextManager[None]:
    """While this is held no artifact is deleted: from the plan of a run until its folder says what it needs."""
    return hold_shared(workspace / LOCK)


def apply(store: Store, planned: Sweep, guard: Callable[[], AbstractContextManager[bool]]) -> bool:
    """Deletes what a sweep found.

    Args:
        store: The store.
        planned: What to delete.
        guard: Entered around each deletion: False if something has happened, such as the start of a run, after which
            the sweep must be made anew; while it is held nothing of that kind may happen.

    Returns:
        False if it stopped for that reason.
    """
    why = f"gc {time.strftime('%Y-%m-%d', time.gmtime())}"
    gone: list[Manifest] = []
    is_whole = True
    for item in planned.delete:
        if item.made is None:
            continue
        with guard() as is_quiet:
            if not is_quiet:
                is_whole = False
                break
            if not _is_held(store.look(item.made.step, item.made.key)):
                place = place_of(item.made.step, item.made.key)
                record = ending("collected", why, Holder.here("gc"))
                store.root.put(decision(place, item.made.epoch), record, durable=True)
                gone.append(item.made)
    left = list(store.manifests()) if gone else []
    used = {made.data for made in left}
    twins = {(made.step, made.content_key): made for made in left}
    for made in gone:
        if made.data == _folder(made.step, made.key, made.epoch) and made.data not in used:
            store.root.remove(made.data)
        if (made.step, made.content_key) in twins:
            store.point_index_at(twins[made.step, made.content_key])
    if is_whole:
        for item in planned.delete:
            _remove_rest(store, item)
    return is_whole


def name_of(made: Manifest) -> str:
    """An artifact's name for people: "clean@0123456789abcdef", with the epoch of a rebuild."""
    rebuild = f" epoch {made.epoch}" if made.epoch > 1 else ""
    return f"{made.step}@{made.key[:KEY_CHARS]}{rebuild}"


@dataclass(frozen=True)
class _Place:
    """A key's folder: who holds it, and how each epoch with files ended."""

    step: str
    key16: str
    seen: Seen
    folders: Mapping[int, str]

    @property
    def name(self) -> str:
        return f"artifacts/{self.step}/{self.key16}"


@dataclass(frozen=True)
class _Census:
    """Everything in a store.

    Attributes:
        manifests: All commits, by step, key and epoch.
        whole: Those whose files are there.
        current: The newest whole one of each step and key.
        places: All keys' folders.
        used: Folders that commits name.
    """

    manifests: list[Manifest]
    whole: set[Id]
    current: dict[tuple[str, str], Manifest]
    places: list[_Place]
    used: set[str]

    @property
    def held(self) -> dict[str, str]:
        """Keys' folders that somebody builds in, and who."""
        holders = {place.name: place.seen.holder for place in self.places if _is_held(place.seen)}
        return {name: holder.run if holder else "an unknown run" for name, holder in holders.items()}


def _take_census(store: Store) -> _Census:
    places = list(_places(store))  # before the manifests: what is committed in between counts as held
    manifests = list(store.manifests())
    whole = {_id(made) for made in manifests if not store.missing(made)}
    current = {(made.step, made.key): made for made in manifests if _id(made) in whole}
    return _Census(manifests, whole, current, places, {made.data for made in manifests})


def _places(store: Store) -> Iterator[_Place]:
    for step in store.root.children("artifacts"):
        for key16 in store.root.children(f"artifacts/{step}"):
            place = f"artifacts/{step}/{key16}"
            epochs = [int(name) for name in store.root.children(place) if name.isdecimal()]
            ends = {epoch: ending_of(store.root.read(decision(place, epoch)))[0] for epoch in epochs}
            yield _Place(step, key16, look(store.root, place), ends)


def _kept(store: Store, census: _Census, roots: Roots, now: float) -> dict[Id, str]:
    """The reason for each artifact that stays: first those that something outside needs, then what they stand on."""
    by_data = {made.data: made for made in census.manifests if made.data == _folder(made.step, made.key, made.epoch)}
    by_content: dict[tuple[str, str, str], Manifest] = {}
    for made in sorted(census.manifests, key=lambda made: _id(made) in census.whole):  # whole ones last, and win
        by_content[made.step, made.key, made.content] = made
    kept: dict[Id, str] = {}
    pending = list(_roots(store, census, roots, now))[::-1]
    while pending:
        made, why = pending.pop()
        if _id(made) in kept:
            continue
        kept[_id(made)] = why
        if made.data in by_data:
            pending.append((by_data[made.data], f"{name_of(made)} shares its files"))
        for record in made.inputs.values():
            source = by_content.get((record.step, record.key, record.content))
            if source is not None:
                pending.append((source, f"{name_of(made)} was made of it"))
    return kept | _items_of(census, kept)


def _roots(store: Store, census: _Census, roots: Roots, now: float) -> Iterator[tuple[Manifest, str]]:
    by_id = {_id(made): made for made in census.manifests}
    for pinned in pins(store):
        made = by_id.get((pinned.step, pinned.key, pinned.epoch))
        if made is not None:
            yield made, f"pinned as {pinned.name}"
    holders = set(census.held.values())
    building = [store.run_folder(run) for run in holders if _has_plan(store.run_folder(run))]
    for folder in dict.fromkeys([*roots.runs, *building]):
        for made in _of_run(folder, census, by_id):
            yield made, f"run {folder.name}"
    for made in census.manifests:
        place = place_of(made.step, made.key)
        if place in census.held:
            yield made, f"run {census.held[place]} is building its key"
        if roots.registered is None and is_model(made):
            yield made, "it holds a model, and the registry cannot be asked whether that is in use"
        if roots.registered and any(made.key == name or made.data in name for name in roots.registered):
            yield made, "the model registry has an alias for it"
        if now - made.committed < roots.younger_than_s:
            yield made, f"younger than {roots.younger_than_s / DAY_S:g} days"


def _of_run(folder: Path, census: _Census, by_id: Mapping[Id, Manifest]) -> Iterator[Manifest]:
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    for step in plan["steps"]:
        current = census.current.get((step["name"], step["key"]))
        if current is not None:
            yield current
        used = step.get("made")
        if used and (step["name"], used["key"], used["epoch"]) in by_id:
            yield by_id[step["name"], used["key"], used["epoch"]]


def _items_of(census: _Census, kept: Mapping[Id, str]) -> dict[Id, str]:
    """Artifacts of single items stay with the artifact that gathered their files, whichever run made them."""
    gathered: dict[str, dict[str, Manifest]] = defaultdict(dict)
    for made in census.manifests:
        if _id(made) in kept:
            gathered[f"{made.step}.item"] |= {file.sha256: made for file in made.files.values()}
    items: dict[Id, str] = {}
    for made in census.manifests:
        wholes = [gathered[made.step].get(file.sha256) for file in made.files.values()]
        if wholes and wholes[0] is not None and None not in wholes and _id(made) not in kept:
            items[_id(made)] = f"an item of {name_of(wholes[0])}"
    return items


def is_model(made: Manifest) -> bool:
    """Tells whether an artifact is a trained model, which the model registry may stand for."""
    return "model/config.json" in made.files


def _uselessness(made: Manifest, census: _Census) -> str:
    current = census.current.get((made.step, made.key))
    if current is None or current.epoch < made.epoch:
        return "its files are missing"
    return f"superseded by epoch {current.epoch}" if current.epoch > made.epoch else "no run that is kept needs it"


def _attempts(store: Store, census: _Census) -> Iterator[Item]:
    """Files of epochs that published nothing. Damaged records tell nothing, so what lies under them stays."""
    for place in census.places:
        for epoch, end in place.folders.items():
            name = f"{place.name}/{epoch:06d}"
            is_dead = end in ("released", "fenced", "collected") or (end == "open" and not _is_held(place.seen))
            if is_dead and name not in census.used:
                why = "deleted before, but for its files" if end == "collected" else "nothing was published"
                title = f"{place.step}@{place.key16} epoch {epoch}"
                yield Item("attempt", title, sum(store.root.sizes(name).values()), why, name)


def _scratch(store: Store, census: _Census) -> Iterator[Item]:
    """Scratch of keys whose newest epoch is a commit; one that was given up means to continue."""
    for place in census.places:
        folder = store.workspace / "scratch" / place.step / place.key16
        newest = decision(place.name, place.seen.epoch)
        if folder.is_dir() and not place.seen.held and ending_of(store.root.read(newest))[0] == "commit":
            title = f"scratch of {place.step}@{place.key16}"
            yield Item("scratch", title, _size(folder), "its artifact is there", str(folder))


def _copies(store: Store, kept: Iterable[Manifest], now: float) -> Iterator[Item]:
    """Copies of files that lie in an object store: fetched, half fetched, and of attempts that are over."""
    if store.is_local:
        return
    wanted = {store.path_of(made) for made in kept}
    for folder in _folders(store.workspace / "fetched", depth=2):
        is_old = now - folder.stat().st_mtime > DAY_S
        if folder not in wanted and (is_old or folder.suffix != ".part"):
            title = f"copy {folder.relative_to(store.workspace)}"
            yield Item("copy", title, _size(folder), "what it is a copy of is not kept", str(folder))
    for folder in _folders(store.workspace / "verifying", depth=1):
        if now - folder.stat().st_mtime > DAY_S:
            yield Item("copy", f"copy {folder.name}", _size(folder), "its verification was cut off", str(folder))
    for folder in _folders(store.workspace / "attempts" / "artifacts", depth=3):
        place = folder.parent.relative_to(store.workspace / "attempts").as_posix()
        if ending_of(store.root.read(decision(place, int(folder.name))))[0] != "open":
            title = f"copy {folder.relative_to(store.workspace)}"
            yield Item("copy", title, _size(folder), "its attempt is over", str(folder))


def _rests(store: Store, census: _Census, now: float) -> Iterator[Item]:
    """Hidden files that a killed process was about to link or move into place."""
    if not isinstance(store.root, Folder):
        return
    for place in census.places:
        for name, written in store.root.changed(place.name, depth=1).items():
            if name.startswith(".") and name.endswith(".tmp") and now - written > DAY_S:
                path = f"{place.name}/{name}"
                size = (store.root.path / path).stat().st_size
                yield Item("rest", path, size, "a write was cut off", path)


def _remove_rest(store: Store, item: Item) -> None:
    if item.kind in ("attempt", "rest"):
        if item.kind == "rest" or not _is_held(look(store.root, item.place.rpartition("/")[0])):
            store.root.remove(item.place)
    elif item.kind in ("scratch", "copy"):
        shutil.rmtree(item.place, ignore_errors=True)


def _is_held(seen: Seen) -> bool:
    """Held, as far as can be known at once: a holder that is silent but not known to be gone counts."""
    return seen.held and not (seen.holder is not None and seen.holder.is_gone)


def _has_plan(run_folder: Path) -> bool:
    return (run_folder / "plan.json").is_file()


def _id(made: Manifest) -> Id:
    return made.step, made.key, made.epoch


def _folder(step: str, key: str, epoch: int) -> str:
    return f"{place_of(step, key)}/{epoch:06d}"


def _folders(base: Path, depth: int) -> Iterator[Path]:
    by_depth = defaultdict(list, {0: [base] if base.is_dir() else []})
    for level in range(depth):
        for folder in by_depth[level]:
            by_depth[level + 1] += sorted(path for path in folder.iterdir() if path.is_dir())
    yield from by_depth[depth]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
