"""Ranks are spawned processes that import `sharded` by name: the root of the repository goes on the path they get."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[3])
if ROOT not in sys.path:
    sys.path.append(ROOT)
