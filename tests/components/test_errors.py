"""Errors: the full disk is found behind any chain of errors, and a chain that bites its tail ends the search."""

from __future__ import annotations

import errno

from components.errors import disk_full


def test_a_full_disk_is_found_behind_other_errors() -> None:
    error = RuntimeError("outer")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/data/part")
    found = disk_full(error)
    assert found is not None
    assert (found.where, found.exit_code) == ("/data/part", 4)


def test_a_chain_of_errors_that_bites_its_tail_ends() -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    assert disk_full(first) is None
