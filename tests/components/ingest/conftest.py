"""Runs of the two ingesting steps, and small WARC files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from components.context import LocalContext, local_context
from components.ingest.config import IngestFilesConfig, IngestWarcConfig
from components.ingest.step import ingest_files, ingest_warc

Run = Callable[..., LocalContext]


@pytest.fixture
def run_files(tmp_path: Path) -> Run:
    """Ingests files; keyword arguments are settings, `place` names the context's folder."""

    def run(*paths: Path | str, place: str = "run", **settings: object) -> LocalContext:
        context = local_context("ingest_files", tmp_path / place)
        ingest_files(context, IngestFilesConfig(paths=tuple(map(str, paths)), **settings))
        return context

    return run


@pytest.fixture
def run_warc(tmp_path: Path) -> Run:
    """Ingests WARC files. See `run_files`."""

    def run(*paths: Path | str, place: str = "run", **settings: object) -> LocalContext:
        context = local_context("ingest_warc", tmp_path / place)
        ingest_warc(context, IngestWarcConfig(paths=tuple(map(str, paths)), **settings))
        return context

    return run


@pytest.fixture
def record() -> Callable[..., bytes]:
    """Makes one WARC record, as a gzip member."""

    def make(
        url: str,
        body: bytes = b"<html><p>text</p>",
        head: bytes = b"Content-Type: text/html",
        status: bytes = b"200 OK",
        kind: str = "response",
        **fields: str,
    ) -> bytes:
        block = b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n\r\n" + body
        more = "".join(f"WARC-{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        top = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2020-01-01T00:00:00Z\r\n{more}"
        top += f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
        return gzip.compress(top.encode() + block + b"\r\n\r\n")

    return make
