"""Files made elsewhere become the artifact of a step as it is planned now: `headwater artifacts adopt`.

The files are copied, hashed and committed as if the step had written them; the manifest says that they were adopted,
by whom and why. Nothing here can tell whether they are what the step would have made.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from components.errors import ConfigError
from pipelines.engine.draft import draft, source_state
from pipelines.engine.manifest import Manifest, Origin
from pipelines.engine.plan import PlanEntry
from pipelines.engine.root import writing
from pipelines.engine.store import Store

RUN = "adopted"
"""What stands in a manifest where the name of the run would."""


def adopt(entry: PlanEntry, store: Store, folder: Path, by: str, reason: str) -> Manifest:
    """Commits a copy of a folder as the artifact of a planned step.

    Args:
        entry: The step; its inputs must be there, since the artifact says what it was made of.
        store: Where to.
        folder: The files.
        by: Name of the user.
        reason: Where they come from, in words.

    Returns:
        The artifact.

    Raises:
        ConfigError: If there is no such folder, or inputs of the step are still to be made.
        MachineError: If another run is building the artifact just now, or the store cannot take the files.
        StepError: If the folder holds links.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder.", f"adopt {entry.name}", "name the folder that holds the files")
    if entry.contents is None:
        raise ConfigError(
            f"The inputs of {entry.name} are not there yet, and an artifact says what it was made of.",
            f"adopt {entry.name}",
            f"headwater run --until {','.join(entry.step.producers)}, or adopt those first",
        )
    lease = store.take(entry.name, entry.key, RUN, "adopt")
    lease.start_beating(lambda: None)  # a lease that is lost meanwhile shows at the commit
    attempt = store.begin(lease)
    try:
        with writing(attempt):
            shutil.copytree(folder, attempt, symlinks=True, dirs_exist_ok=True)
        made = replace(
            draft(entry, entry.contents, RUN, source_state()), origin=Origin("adopted", by=by, reason=reason)
        )
        found = store.commit(lease, attempt, made)
    except BaseException:
        store.discard(lease, attempt, "the files could not be adopted")
        raise
    assert found.manifest is not None
    return found.manifest
