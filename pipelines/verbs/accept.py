"""`headwater accept STEP...`: declare artifacts valid for the code as it is now."""

from __future__ import annotations

import argparse
import getpass
import json
from collections.abc import Sequence

from pipelines.config import load_settings
from pipelines.engine import accept as engine
from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.reasons import shortened
from pipelines.verbs.planning import open_store, steps_of


def accept(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Accepts the artifacts of the named steps and prints what changed since they were made."""
    settings = load_settings(overrides)
    done = engine.accept(steps_of(settings), open_store(settings), options.steps, getpass.getuser(), options.reason)
    if options.json:
        print(json.dumps([_record(accepted) for accepted in done], ensure_ascii=False))
        return 0
    for accepted in done:
        made = f"{accepted.made.key[:KEY_CHARS]} of run {accepted.made.run}"
        print(f"accepted {accepted.step}: {made}, though {shortened(accepted.files)} changed since")
    return 0


def _record(accepted: engine.Accepted) -> dict[str, object]:
    made = accepted.made
    return {
        "step": accepted.step,
        "key": accepted.key,
        "made": {"key": made.key, "epoch": made.epoch, "run": made.run},
        "files": list(accepted.files),
    }
