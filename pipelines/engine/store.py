"""Where artifacts live: a folder per attempt, and one small file whose exclusive creation makes one the artifact.

    artifacts/<step>/<key16>/<attempt>/files...      what a step wrote
    artifacts/<step>/<key16>/COMMIT.json             the manifest: names the attempt, its files, sizes and hashes
    scratch/<step>/<key16>/                          survives attempts and runs; deleted after the commit
    leases/<step>-<key16>.lock                       who builds it
    runs/<run id>/                                   see events.py
    cache/                                           what is only kept to save time

No folder is ever renamed, so the order is simple: write the files, hash and flush them, create COMMIT.json. A crash at
any point before leaves an attempt nobody refers to; two writers leave one artifact, and the loser deletes its own
attempt. A hit is checked: every file must be there with its size, else the artifact counts as missing and says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.context import Json
from components.errors import StepError
from components.publish import flush, sha256_of
from pipelines.engine.identity import KEY_CHARS, digest_of_files
from pipelines.engine.manifest import FileRecord, InputRecord, Manifest, hardware, versions
from pipelines.engine.root import Root

COMMIT = "COMMIT.json"


@dataclass(frozen=True)
class Found:
    """What lies under a key.

    Attributes:
        manifest: The manifest of a usable artifact; None where there is none.
        path: Its folder.
        problem: Why something that was committed is not usable: "artifact files are missing".
    """

    manifest: Manifest | None = None
    path: Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class Work:
    """What a commit says about the work beside its files: see `Manifest` for the fields of the same name."""

    step: str
    key: str
    version: int
    inputs: Mapping[str, InputRecord]
    identity: Mapping[str, Json]
    config: Mapping[str, Json]
    code_digest: str
    code_files: Mapping[str, str]
    code_policy: str
    run: str
    started: float
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)


class Store:
    """Artifacts under one root.

    Args:
        url: A folder or `file://` URL.
    """

    def __init__(self, url: str | Path) -> None:
        self.root = Root(url)

    def __repr__(self) -> str:
        return f"Store({str(self.root.path)!r})"

    def lookup(self, step: str, key: str) -> Found:
        """Looks for the artifact of a key and checks that its bytes are there."""
        text = self.root.read(f"{_place(step, key)}/{COMMIT}")
        if text is None:
            return Found()
        try:
            manifest = Manifest.from_bytes(text)
        except ValueError:
            return Found(problem="artifact manifest is damaged")
        base = f"{_place(step, key)}/{manifest.attempt}"
        missing = [name for name, file in manifest.files.items() if self.root.size(f"{base}/{name}") != file.bytes]
        if missing or not self.root.local(base).is_dir():
            count = f" ({missing[0]}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''})" if missing else ""
            return Found(problem=f"artifact files are missing{count}")
        return Found(manifest, self.root.local(base))

    def newest(self, step: str) -> Manifest | None:
        """The manifest of a step that was committed last, whatever its key; damaged ones are passed over."""
        for name in self.root.newest_first(f"artifacts/{step}/*/{COMMIT}"):
            text = self.root.read(name)
            try:
                return Manifest.from_bytes(text or b"")
            except ValueError:
                continue
        return None

    def begin(self, step: str, key: str) -> Path:
        """Makes the folder of a new attempt. The caller holds the lease of the key.

        A commit that is no longer usable is set aside, and attempts that died before their commit are deleted.
        """
        place = self.root.local(_place(step, key))
        place.mkdir(parents=True, exist_ok=True)
        current = self.lookup(step, key).path
        if current is None and (place / COMMIT).exists():
            self.root.set_aside(f"{_place(step, key)}/{COMMIT}", f"{_place(step, key)}/{self._unused(place)}")
        names = [entry.name for entry in place.iterdir() if entry.is_dir()]
        for name in names:
            if current is None or current.name != name:
                self.root.remove(f"{_place(step, key)}/{name}")
        attempt = place / str(max((int(name) for name in names if name.isdecimal()), default=0) + 1)
        attempt.mkdir(exist_ok=False)
        return attempt

    def commit(self, attempt: Path, work: Work) -> Found:
        """Publishes an attempt as the artifact of its key.

        Returns:
            What lies under the key afterwards: this attempt, or the one that was first, in which case this one is gone.

        Raises:
            StepError: If the attempt holds a link instead of a file.
        """
        files = _record_files(attempt, work.step)
        manifest = Manifest(
            step=work.step,
            key=work.key,
            version=work.version,
            attempt=attempt.name,
            inputs=work.inputs,
            identity=work.identity,
            config=work.config,
            code_digest=work.code_digest,
            code_files=work.code_files,
            code_policy=work.code_policy,
            files=files,
            content=digest_of_files({name: file.sha256 for name, file in files.items()}),
            metrics=work.metrics,
            run=work.run,
            versions=versions(),
            hardware=hardware(),
            started=work.started,
            seconds=work.seconds,
        )
        if self.root.create(f"{_place(work.step, work.key)}/{COMMIT}", manifest.to_bytes()):
            shutil.rmtree(self.scratch(work.step, work.key))
            return Found(manifest, attempt)
        self.discard(attempt)
        return self.lookup(work.step, work.key)

    def discard(self, attempt: Path) -> None:
        """Deletes an attempt that will not be committed."""
        self.root.remove(str(attempt.relative_to(self.root.path)))

    def scratch(self, step: str, key: str) -> Path:
        """The scratch folder of a key, made if missing."""
        folder = self.root.local(f"scratch/{step}/{key[:KEY_CHARS]}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has_scratch(self, step: str, key: str) -> bool:
        """Tells whether an earlier attempt left work to continue from."""
        folder = self.root.local(f"scratch/{step}/{key[:KEY_CHARS]}")
        return folder.is_dir() and any(folder.iterdir())

    def lease(self, step: str, key: str) -> Path:
        """The lock file of a key, for `lease.try_lock`."""
        return self.root.local(f"leases/{step}-{key[:KEY_CHARS]}.lock")

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run; not made."""
        return self.root.local(f"runs/{run_id}")

    @staticmethod
    def _unused(place: Path) -> str:
        number = len(list(place.glob("COMMIT.damaged-*.json"))) + 1
        return f"COMMIT.damaged-{number}.json"


def _place(step: str, key: str) -> str:
    return f"artifacts/{step}/{key[:KEY_CHARS]}"


def _record_files(attempt: Path, step: str) -> dict[str, FileRecord]:
    """Hashes and flushes every file below an attempt, folders last, so that the commit comes after all bytes."""
    if not attempt.is_dir():
        raise StepError(f"The output folder of step {step} is gone.", str(attempt), "run again; leave the store alone")
    files: dict[str, FileRecord] = {}
    for folder, _, names in os.walk(attempt, topdown=False):
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_symlink():
                raise StepError(
                    f"Step {step} left a link in its output.", str(path), "write the file itself, links do not travel"
                )
            flush(path)
            files[path.relative_to(attempt).as_posix()] = FileRecord(path.stat().st_size, sha256_of(path))
        flush(Path(folder))
    flush(attempt.parent)
    return files
