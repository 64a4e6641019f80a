"""Run folders in an object store: the history of a run outlives the machine that drove it.

While a run goes its folder is in the workspace, where many processes append to it. When a driver ends, the folder is
packed into one object, `runs/<run>.tar.gz`, over what was there; a command on another machine unpacks it. For a store
in a folder there is nothing to do: the runs lie in it.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from pipelines.engine.store import Store

_LEFT = (".lock", ".tmp")
"""What belongs to a machine and not to the run."""


def archive(store: Store, folder: Path) -> None:
    """Packs a run folder into the store, if that is an object store."""
    if store.is_local:
        return
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in _LEFT:
                tar.add(path, path.relative_to(folder).as_posix())
    store.root.put(_name(folder.name), packed.getvalue())


def archived(store: Store) -> list[str]:
    """The runs that the store has an archive of."""
    names = [] if store.is_local else store.root.children("runs")
    return [name.removesuffix(".tar.gz") for name in names if name.endswith(".tar.gz")]


def unpack(store: Store, run_id: str) -> Path | None:
    """Brings an archived run into the workspace; None if there is none."""
    packed = store.root.read(_name(run_id))
    if packed is None:
        return None
    folder = store.run_folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        tar.extractall(folder, filter="data")
    return folder


def _name(run_id: str) -> str:
    return f"runs/{run_id}.tar.gz"
