"""`headwater export`: a trained model as a Hugging Face folder for others, in another type or in shards, verified."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.errors import ConfigError
from pipelines.config import load_settings
from pipelines.verbs.artifacts import find_artifact, in_bytes
from pipelines.verbs.planning import open_store


def export(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Writes the model of an artifact, or of a model folder, to a folder."""
    source = model_folder(overrides, options.artifact)
    if options.shard_bytes < 1:
        raise ConfigError(
            f"--shard-bytes {options.shard_bytes} must be at least 1.", "command line", "--shard-bytes 5000000000"
        )
    from components.model.export import export_model

    made = export_model(source, Path(options.folder), options.dtype, options.shard_bytes)
    if options.json:
        print(json.dumps({"folder": options.folder, "source": str(source), "dtype": options.dtype, **asdict(made)}))
        return 0
    files = "one file" if made.files == 1 else f"{made.files} files"
    print(
        f"{options.folder}: {made.model_class}, {made.parameters:,} parameters in {options.dtype}, "
        f"{in_bytes(made.num_bytes)} in {files}; read back and equal"
    )
    return 0


def model_folder(overrides: Sequence[str], name: str) -> Path:
    """The model folder that a person means: a folder with a config.json, or an artifact that has one.

    Raises:
        ConfigError: If there is no such artifact, or it holds no model.
    """
    if "/" in name and (Path(name) / "config.json").is_file():
        return Path(name)
    store = open_store(load_settings(overrides))
    made = find_artifact(store, name)
    folder = store.fetch(made) / "model"
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"the artifact of step {made.step} holds no model.",
            name,
            "name the artifact of pretrain, sft, reward or ppo, or a model folder",
        )
    return folder
