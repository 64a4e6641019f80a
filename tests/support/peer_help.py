"""Virtual environments of the peers that benches run beside us: pinned lists of `bench/peers`, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / "bench" / "peers"


def environment_of(peer: str) -> Path:
    """The environment of a peer; made and filled the first time, which takes a minute or two."""
    wanted = PEERS / f"requirements-{peer}.txt"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headwater" / "bench"
    folder = cache / f"{peer}-{digest}"
    if not (folder / "ready").exists():
        # -I: the suite's PYTHONPATH keeps every process on this machine, and pip has to leave it.
        subprocess.run([sys.executable, "-I", "-m", "venv", "--clear", folder], check=True)
        quiet = ["--quiet", "--disable-pip-version-check", "--requirement"]
        subprocess.run([folder / "bin" / "python", "-I", "-m", "pip", "install", *quiet, wanted], check=True)
        (folder / "ready").touch()
    return folder
