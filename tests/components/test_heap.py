"""A rank's heap: huge pages where the kernel gives them, and nothing handed back between two steps."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
NUM_BYTES, SMALL_PAGE = 256 << 20, 4096
PROGRAM = f"""
import resource
import torch
from components.heap import keep_memory

def faults_of_a_tensor():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({NUM_BYTES}, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_memory()
print(faults_of_a_tensor(), faults_of_a_tensor())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap is left alone where the C library is not glibc")
def test_a_tensor_takes_huge_pages_and_the_next_one_takes_none():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert second < NUM_BYTES / SMALL_PAGE / 20
    if HUGE.exists() and "[never]" not in HUGE.read_text():
        assert first < NUM_BYTES / SMALL_PAGE / 4
