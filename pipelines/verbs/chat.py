"""`headwater chat`: talk to a model of the newest run, or to any model folder."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from components.errors import ConfigError
from pipelines.config import Settings, load_settings
from pipelines.engine.events import fold
from pipelines.runs import all_runs
from pipelines.verbs.planning import open_store
from pipelines.verbs.show import artifact_of


def chat(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Answers one message, or keeps answering until the input ends."""
    folder = Path(options.model) if options.model else newest_model(load_settings(overrides), options.stage)
    from components.model.config import SamplingConfig
    from components.serve.chat import Chat

    sampling = SamplingConfig(temperature=options.temperature, top_p=0.95, max_new_tokens=96)
    talk = Chat(folder, sampling, options.seed, style="text" if options.stage == "pretrain" else "chat")
    if options.message is not None:
        reply = "".join(talk.reply(options.message))
        record = {"message": options.message, "reply": reply, "model": str(folder)}
        print(json.dumps(record, ensure_ascii=False) if options.json else reply)
        return 0
    print(f"{options.stage} model {folder}; an empty line or Ctrl-D ends", file=sys.stderr)
    while message := _ask():
        for piece in talk.reply(message):
            print(piece, end="", flush=True)
        print()
    return 0


def newest_model(settings: Settings, stage: str) -> Path:
    """The model folder of the newest run that has the stage.

    Raises:
        ConfigError: If no run finished it.
    """
    for folder in all_runs(settings.folder):
        step = fold(folder).steps.get(stage)
        if step is not None and step.state in ("done", "cached"):
            return artifact_of(open_store(settings), folder, stage) / "model"
    raise ConfigError(f"no run has a finished {stage} model.", f"store={settings.store}", "headwater run")


def _ask() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""
