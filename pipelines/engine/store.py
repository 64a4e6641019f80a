"""Where artifacts live: one folder per key, an epoch per attempt, and one small file whose creation is the commit.

    artifacts/<step>/<key16>/<epoch>/files...        what a step wrote
    artifacts/<step>/<key16>/<epoch>.json            the manifest: names the files, their sizes and hashes
    artifacts/<step>/<key16>/<epoch>.lease, .beat    who writes it, see `lease`
    index/<step>/<content key16>.json                which key was made of inputs with these bytes; a hint
    pins/<name>.json                                 what garbage collection must leave, see `gc`

The order is simple: write the files, hash and flush them, end the epoch with the manifest. A crash at any point before
leaves an attempt nobody refers to. The artifact of a key is the newest epoch that ended in a commit and whose files
are all there with their sizes; rebuilding one is just another epoch. Nothing is ever renamed or changed.

The root may be a folder or an object store. Beside it is a workspace, a local folder (on a cluster one that all nodes
mount) for what needs a file system: runs, scratch, and copies of artifacts that were fetched. For a store in a folder
the two are one, and nothing is copied.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from components.errors import MachineError, StepError
from components.publish import flush, sha256_of
from pipelines.engine.identity import KEY_CHARS, digest_of_files
from pipelines.engine.lease import DEFAULT_LEASE_S, Lease, LeaseLost, Seen, acquire, decision, holder_of, look
from pipelines.engine.manifest import FileRecord, Manifest, Origin
from pipelines.engine.root import Bucket, make_folder, open_root, writing

DEFAULT_WORKSPACE = ".headwater"


@dataclass(frozen=True)
class Found:
    """What lies under a key.

    Attributes:
        manifest: The manifest of a usable artifact; None where there is none.
        path: Where its files are on this machine, or would be once `Store.fetch` has brought them.
        problem: Why something that was committed is not usable: "artifact files are missing".
    """

    manifest: Manifest | None = None
    path: Path | None = None
    problem: str = ""


class Store:
    """Artifacts under one root, and the workspace beside it.

    Args:
        url: A folder, a `file://` URL, or "s3://bucket/prefix".
        workspace: Local folder for runs and scratch. For a store in a folder that folder itself if None, for others
            `.headwater` here.
    """

    def __init__(self, url: str | os.PathLike[str], workspace: str | os.PathLike[str] | None = None) -> None:
        self.root = open_root(url)
        if workspace is None:
            workspace = DEFAULT_WORKSPACE if isinstance(self.root, Bucket) else self.root.path
        self.workspace = Path(os.path.abspath(workspace))

    def __repr__(self) -> str:
        return f"Store({self.root.url!r})"

    @property
    def is_local(self) -> bool:
        """True if the artifacts' files can be read where they lie."""
        return not isinstance(self.root, Bucket)

    def lookup(self, step: str, key: str) -> Found:
        """Looks for the artifact of a key, and checks that its files are there with their sizes."""
        problem = ""
        for epoch in self._ended(step, key):
            text = self.root.read(decision(place_of(step, key), epoch)) or b""
            kind, why = ending_of(text)
            if kind == "collected":
                problem = problem or f"artifact was deleted: {why}"
            if kind in ("released", "fenced", "collected"):
                continue
            try:
                manifest = Manifest.from_bytes(text)
            except ValueError:
                problem = problem or "artifact manifest is damaged"
                continue
            if manifest.key != key:
                continue  # another key with the same first characters
            missing = self.missing(manifest)
            if not missing:
                return Found(manifest, self.path_of(manifest))
            problem = problem or missing
        return Found(problem=problem)

    def missing(self, manifest: Manifest) -> str:
        """What an artifact lacks of its files, judged by their sizes; empty if all is there."""
        if isinstance(self.root, Bucket):
            sizes = self.root.sizes(manifest.data)
            gone = [name for name, file in manifest.files.items() if sizes.get(name) != file.bytes]
        else:
            base = self.root.path / manifest.data
            gone = [name for name, file in manifest.files.items() if _size(base / name) != file.bytes]
            if not gone and not base.is_dir():
                return "artifact files are missing"
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        return f"artifact files are missing ({gone[0]}{more})" if gone else ""

    def damaged(self, manifest: Manifest) -> list[str]:
        """Files of an artifact whose bytes are not those that were committed; reads all of them."""
        if not isinstance(self.root, Bucket):
            return _differing(self.root.path / manifest.data, manifest)
        folder = self.workspace / "verifying" / uuid.uuid4().hex
        try:
            return self._download(manifest, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def by_content(self, step: str, content_key: str) -> Found:
        """Looks for an artifact of a step that inputs with the same bytes have made, whatever its recipe key."""
        try:
            key = str(json.loads(self.root.read(_index(step, content_key)) or b"")["key"])
        except (ValueError, TypeError, KeyError):
            return Found()  # none, or lost with a machine: the index is a hint
        found = self.lookup(step, key)
        if found.manifest is None or found.manifest.content_key != content_key:
            return Found()
        return found

    def point_index_at(self, made: Manifest) -> None:
        """Lets `by_content` find an artifact; of several made of the same bytes it finds the last."""
        self.root.put(_index(made.step, made.content_key), json.dumps({"key": made.key}).encode())

    def newest(self, step: str) -> Manifest | None:
        """The manifest of a step that was committed last, whatever its key; damaged ones are passed over."""
        changed = self.root.changed(f"artifacts/{step}", depth=2)
        names = [name for name in changed if name.endswith(".json")]
        for name in sorted(names, key=lambda name: (changed[name], name), reverse=True):
            try:
                return Manifest.from_bytes(self.root.read(f"artifacts/{step}/{name}") or b"")
            except ValueError:
                continue
        return None

    def manifests(self, step: str | None = None) -> Iterator[Manifest]:
        """Every commit in the store, of one step or of all, superseded ones too, by step, key and epoch."""
        for name in self.root.children("artifacts") if step is None else [step]:
            for key in self.root.children(f"artifacts/{name}"):
                for epoch in reversed(self._ended(name, key)):
                    try:
                        yield Manifest.from_bytes(self.root.read(decision(place_of(name, key), epoch)) or b"")
                    except ValueError:
                        continue

    def acquire(
        self,
        step: str,
        key: str,
        run: str,
        lease_s: float = DEFAULT_LEASE_S,
        stale_epoch: int | None = None,
        token: str = "",
    ) -> Lease | Seen:
        """Takes the lease of a key if it is free, see `lease.acquire`."""
        return acquire(self.root, place_of(step, key), run, lease_s, stale_epoch, token)

    def take(self, step: str, key: str, run: str, verb: str) -> Lease:
        """Takes the lease of a key for a command that does not wait.

        Args:
            step: Name of the step.
            key: Its recipe key.
            run: What stands for the run that wants it.
            verb: The command, to type again later.

        Raises:
            MachineError: If a run is building the artifact just now.
        """
        lease = self.acquire(step, key, run)
        if isinstance(lease, Seen):
            builder = lease.holder.run if lease.holder else "another run"
            raise MachineError(
                f"The artifact of {step} is being built by {builder}.",
                f"{step}@{key[:KEY_CHARS]}",
                f"wait for it, or cancel that run, and {verb} again",
            )
        return lease

    def look(self, step: str, key: str) -> Seen:
        """Who holds a key now."""
        return look(self.root, place_of(step, key))

    def was_taken_by(self, step: str, key: str, token: str) -> bool:
        """Tells whether an attempt has the newest epoch of a key, or had it: it may be over already."""
        place = place_of(step, key)
        holder = holder_of(self.root, place, look(self.root, place).epoch)
        return holder is not None and holder.token == token

    def begin(self, lease: Lease) -> Path:
        """Makes the folder that an attempt writes into, and deletes what dead attempts left.

        Args:
            lease: The lease of the key.

        Raises:
            MachineError: If the disk is full or read-only.
        """
        for name in self.root.children(lease.place):
            if name.isdecimal() and int(name) < lease.epoch:
                ended = ending_of(self.root.read(decision(lease.place, int(name))))[0]
                if ended in ("released", "fenced"):  # a damaged record tells nothing, and others may share the files
                    self._clear(f"{lease.place}/{name}")
        attempt = self._attempt(lease)
        if isinstance(self.root, Bucket):
            shutil.rmtree(attempt.parent, ignore_errors=True)  # local halves of dead attempts
        elif attempt.exists():  # an epoch belongs to one process, so this is a store that was copied while in use
            shutil.rmtree(attempt)
        with writing(attempt):
            make_folder(attempt)
        return attempt

    def commit(self, lease: Lease, attempt: Path, draft: Manifest) -> Found:
        """Publishes what an attempt wrote as the artifact of its key.

        Args:
            lease: The lease of the key.
            attempt: The folder from `begin`.
            draft: The manifest without its files.

        Returns:
            The artifact.

        Raises:
            LeaseLost: If another process took the key over meanwhile; what was written is deleted.
            StepError: If the attempt holds anything but files and folders.
            MachineError: If the store cannot take the files.
        """
        data = f"{lease.place}/{lease.epoch:06d}"
        try:
            lease.check()
            files = self._bring(lease, attempt, draft.step, data)
            found = self._publish(lease, draft, files, data)
        except LeaseLost:
            self._drop(lease, attempt)
            raise
        if isinstance(self.root, Bucket):
            self._keep_copy(attempt, found)
        shutil.rmtree(self._scratch(draft.step, draft.key), ignore_errors=True)
        return found

    def alias(self, lease: Lease, draft: Manifest, source: Manifest, origin: Origin) -> Found:
        """Publishes the files of another artifact as the artifact of a key too; nothing is copied.

        Args:
            lease: The lease of the key.
            draft: The manifest without its files.
            source: The artifact that has them.
            origin: Why they are valid for this key.

        Raises:
            LeaseLost: If another process took the key over meanwhile.
        """
        kept = replace(draft, run=source.run, started=source.started, seconds=source.seconds, metrics=source.metrics)
        kept = replace(kept, versions=source.versions, hardware=source.hardware, resources=source.resources)
        return self._publish(lease, replace(kept, origin=origin), dict(source.files), source.data)

    def discard(self, lease: Lease, attempt: Path, why: str) -> None:
        """Deletes what an attempt wrote, first of all because the disk may be full, and gives its lease back."""
        self._drop(lease, attempt)
        lease.release(why)

    def fetch(self, manifest: Manifest) -> Path:
        """Brings the files of an artifact onto this machine, each checked against its hash; returns their folder.

        Raises:
            MachineError: If a file's bytes are not those that were committed.
        """
        path = self.path_of(manifest)
        if self.is_local or path.is_dir():
            return path
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            wrong = self._download(manifest, partial)
            if wrong:
                raise MachineError(
                    f"{len(wrong)} files of an artifact of {manifest.step} are damaged in the store, first {wrong[0]}.",
                    f"{self.root.url}/{manifest.data}",
                    f"headwater run --force {manifest.step} builds it again",
                )
            _move(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return path

    def path_of(self, manifest: Manifest) -> Path:
        """Where an artifact's files are on this machine, or would be once fetched; copies go by their content."""
        if isinstance(self.root, Bucket):
            return self.workspace / "fetched" / manifest.step / manifest.content[:KEY_CHARS]
        return self.root.path / manifest.data

    def scratch(self, step: str, key: str) -> Path:
        """The scratch folder of a key, made if missing."""
        folder = self._scratch(step, key)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has_scratch(self, step: str, key: str) -> bool:
        """Tells whether an earlier attempt left work to continue from."""
        folder = self._scratch(step, key)
        return folder.is_dir() and any(folder.iterdir())

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run; not made."""
        return self.workspace / "runs" / run_id

    def _publish(self, lease: Lease, draft: Manifest, files: dict[str, FileRecord], data: str) -> Found:
        manifest = replace(
            draft,
            epoch=lease.epoch,
            data=data,
            files=files,
            content=digest_of_files({name: file.sha256 for name, file in files.items()}),
            committed=round(time.time(), 3),
        )
        lease.decide(manifest.to_bytes())
        self.point_index_at(manifest)
        return Found(manifest, self.path_of(manifest))

    def _bring(self, lease: Lease, attempt: Path, step: str, data: str) -> dict[str, FileRecord]:
        """Makes all bytes of an attempt durable in the store. A lease that was lost meanwhile explains any failure."""
        try:
            with writing(attempt):
                files = _record_files(attempt, step)
            if isinstance(self.root, Bucket):
                for name in files:
                    self.root.upload(attempt / name, f"{data}/{name}")
        except (OSError, StepError):
            lease.check()
            raise
        return files

    def _drop(self, lease: Lease, attempt: Path) -> None:
        """Deletes what an attempt wrote, unless its epoch was committed by a request whose answer got lost."""
        if ending_of(self.root.read(decision(lease.place, lease.epoch)))[0] == "commit":
            return
        shutil.rmtree(attempt, ignore_errors=True)
        self._clear(f"{lease.place}/{lease.epoch:06d}")

    def _clear(self, folder: str) -> None:
        """Deletes the files of a dead attempt; a holder that lost its lease may still be writing there for a moment."""
        try:
            self.root.remove(folder)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise

    def _attempt(self, lease: Lease) -> Path:
        if isinstance(self.root, Bucket):
            return self.workspace / "attempts" / lease.place / f"{lease.epoch:06d}"
        return self.root.path / lease.place / f"{lease.epoch:06d}"

    def _keep_copy(self, attempt: Path, found: Found) -> None:
        """What was just uploaded need not be fetched again."""
        assert found.path is not None
        found.path.parent.mkdir(parents=True, exist_ok=True)
        _move(attempt, found.path)

    def _download(self, manifest: Manifest, folder: Path) -> list[str]:
        assert isinstance(self.root, Bucket)
        folder.mkdir(parents=True)
        for name in manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                self.root.download(f"{manifest.data}/{name}", folder / name)
            except FileNotFoundError:
                continue  # counts as differing
        return _differing(folder, manifest)

    def _scratch(self, step: str, key: str) -> Path:
        return self.workspace / "scratch" / step / key[:KEY_CHARS]

    def _ended(self, step: str, key: str) -> list[int]:
        """Epochs of a key that have a decision, the newest first."""
        return sorted(self._epochs(place_of(step, key), ".json"), reverse=True)

    def _epochs(self, place: str, suffix: str) -> list[int]:
        names = self.root.children(place)
        return [int(name[:6]) for name in names if name[:6].isdecimal() and name[6:] == suffix]


def ending_of(record: bytes | None) -> tuple[str, str]:
    """How an epoch ended and the reason its record gives.

    Args:
        record: Its decision; None if there is none.

    Returns:
        "commit", "released", "fenced", "collected", "open" if there is no decision, or "" if it is damaged.
    """
    if record is None:
        return "open", ""
    try:
        found = json.loads(record)
        return str(found["kind"]), str(found.get("why", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", ""


def place_of(step: str, key: str) -> str:
    """The folder of a key, from the store's root."""
    return f"artifacts/{step}/{key[:KEY_CHARS]}"


def _index(step: str, content_key: str) -> str:
    return f"index/{step}/{content_key[:KEY_CHARS]}.json"


def _move(folder: Path, path: Path) -> None:
    """Puts a folder in its place unless there is one already: both hold the same bytes, as their names say."""
    try:
        folder.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _differing(folder: Path, manifest: Manifest) -> list[str]:
    return [
        name
        for name, file in manifest.files.items()
        if not (folder / name).is_file() or sha256_of(folder / name) != file.sha256
    ]


def _record_files(attempt: Path, step: str) -> dict[str, FileRecord]:
    """Hashes and flushes every file below an attempt, folders last, so that the commit comes after all bytes."""
    if not attempt.is_dir():
        raise StepError(f"The output folder of step {step} is gone.", str(attempt), "run again; leave the store alone")
    files: dict[str, FileRecord] = {}
    for folder, folders, names in os.walk(attempt, topdown=False):
        for name in sorted([*folders, *names]):
            path = Path(folder, name)
            if path.is_symlink():
                raise StepError(
                    f"Step {step} left a link in its output.", str(path), "write the file itself, links do not travel"
                )
            if path.is_dir():
                continue
            if not path.is_file():
                raise StepError(f"Step {step} left a pipe or device in its output.", str(path), "write plain files")
            flush(path)
            files[path.relative_to(attempt).as_posix()] = FileRecord(path.stat().st_size, sha256_of(path))
        flush(Path(folder))
    flush(attempt.parent)
    return files
