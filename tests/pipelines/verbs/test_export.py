"""`export` writes the model of an artifact, or of a folder, for others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli import main

from .conftest import Headwater


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pretrain leaves it."""
    from tokenizers import Tokenizer, models

    from components.model.config import ModelConfig
    from components.model.huggingface import save_model
    from components.model.transformer import Transformer
    from components.tokenizer.special import SPECIAL_TOKENS

    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(SPECIAL_TOKENS)}, merges=[]))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = ModelConfig(vocab_size=7, dim=16, num_layers=1, num_heads=2, num_kv_heads=1, ffn_dim=16, max_length=32)
    save_model(Transformer(config), folder / "model", folder)
    return folder


def test_the_model_of_a_step_is_exported_by_its_name(headwater: Headwater, model: Path, tmp_path: Path) -> None:
    headwater("artifacts", "adopt", "pretrain", str(model), "--reason", "made by a test")
    said = headwater("export", "amber-1:pretrain", str(tmp_path / "out"), "--dtype", "bf16")
    assert "LlamaForCausalLM" in said
    assert "read back and equal" in said
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_model_folder_is_exported_and_told_as_json(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["export", str(model / "model"), out, "--shard-bytes", "600", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["model_class"] == "LlamaForCausalLM"
    assert record["files"] > 1
    assert main(["export", str(model / "model"), out]) == 2
    assert "already" in capsys.readouterr().err


def test_an_artifact_without_a_model_is_refused(headwater: Headwater, tmp_path: Path) -> None:
    said = headwater("export", "clean", str(tmp_path / "out"), code=2)
    assert "holds no model" in said
