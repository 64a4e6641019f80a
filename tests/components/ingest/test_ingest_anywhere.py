"""The same result from a bucket as from a disk, and with any number of workers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from parallel_context import parallel_context

from components.crawl.warc_read import read_pages
from components.errors import ConfigError, StepError
from components.ingest.config import IngestFilesConfig, IngestWarcConfig
from components.ingest.sources import fingerprint
from components.ingest.step import ingest_files, ingest_warc


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def corpus(tmp_path: Path, record) -> Path:
    """Three archives and three tables."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in "abc":
        pages = b"".join(record(f"http://e.com/{name}{number}") for number in range(5))
        (folder / f"{name}.warc.gz").write_bytes(pages)
        rows = [json.dumps({"text": f"The old man {name} looks at river {number}."}) for number in range(20)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture
def bucket(corpus: Path, s3_url: str) -> str:
    """The same in S3."""
    import fsspec

    store = fsspec.filesystem("s3")
    for path in corpus.iterdir():
        store.pipe(f"{s3_url}/deep/{path.name}", path.read_bytes())
    return f"{s3_url}/deep"


def test_archives_are_the_same_from_s3_as_from_disk(corpus: Path, bucket: str, run_warc):
    local, remote = run_warc(corpus, place="local"), run_warc(f"{bucket}/*.warc.gz", place="remote")
    assert _digest(local.output) == _digest(remote.output)
    assert len(list(read_pages(remote.output / "warc"))) == 15


def test_documents_are_the_same_from_s3_as_from_disk(corpus: Path, bucket: str, run_files):
    local, remote = run_files(corpus, place="local"), run_files(bucket, place="remote")
    assert _digest(local.output) == _digest(remote.output)


def test_a_fingerprint_in_s3_follows_the_content(bucket: str):
    import fsspec

    before = fingerprint([bucket], "files")
    assert fingerprint([f"{bucket}/*.jsonl"], "files") == before
    fsspec.filesystem("s3").pipe(f"{bucket}/a.jsonl", b'{"text": "another"}')
    assert fingerprint([bucket], "files") != before


def test_a_bucket_that_is_not_there_is_refused(s3_url: str, run_files):
    with pytest.raises((ConfigError, StepError), match=r"names no file|cannot be listed"):
        run_files("s3://no-such-bucket-anywhere/x/*.jsonl")


def test_three_workers_give_what_one_gives(tmp_path: Path, corpus: Path, run_warc, run_files):
    paths = (str(corpus),)
    with parallel_context("ingest", tmp_path / "warc3", 3) as context:
        ingest_warc(context, IngestWarcConfig(paths=paths))
        assert _digest(context.output) == _digest(run_warc(corpus, place="warc1").output)
    with parallel_context("ingest", tmp_path / "files3", 3) as context:
        ingest_files(context, IngestFilesConfig(paths=paths))
        assert _digest(context.output) == _digest(run_files(corpus, place="files1").output)
