"""Arrow files that are written batch by batch and appear whole, or not at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from components.publish import publish


class ArrowWriter(ABC):
    """Writes record batches into one IPC file; a context manager, published on a clean exit.

    Args:
        path: The file.
        schema: Of its batches.
        compression: "lz4", or None for files that are used from a memory map.
    """

    def __init__(self, path: Path, schema: pa.Schema, compression: str | None) -> None:
        self._path = path
        self._schema = schema
        self._compression = compression

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(publish(self._path))
            sink = stack.enter_context(pa.OSFile(str(temporary), "wb"))
            options = pa.ipc.IpcWriteOptions(compression=self._compression)
            self._writer = stack.enter_context(pa.ipc.new_file(sink, self._schema, options=options))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:  # a failure of the last batch publishes nothing either
            self._finish()

    def _put(self, batch: pa.RecordBatch) -> None:
        """Writes a batch; what building it took, which Arrow would keep for a while, goes back to the system."""
        self._writer.write_batch(batch)
        pa.default_memory_pool().release_unused()

    @abstractmethod
    def _finish(self) -> None:
        """Writes what is left when all rows have come."""


class TupleWriter(ArrowWriter):
    """Writes rows that come as tuples in the order of the schema's fields, one batch a call."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        super().__init__(path, schema, None)

    def write(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Writes some rows; no batch where there are none."""
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            self._writer.write_batch(pa.record_batch(columns, schema=self._schema))

    def _finish(self) -> None:
        """Nothing is held back."""
