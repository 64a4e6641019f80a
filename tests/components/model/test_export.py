"""An export is what transformers reads, in the type asked for, and what was read back."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.errors import ConfigError, StepError
from components.model.config import ModelConfig
from components.model.export import export_model, load_any
from components.model.heads import ClassifierModel, ScalarModel
from components.model.huggingface import save_model
from components.model.transformer import Transformer, build_model

SHAPE = {"vocab_size": 263, "dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 4, "ffn_dim": 64}
SHAPE |= {"max_length": 64}
MODELS = {
    "LlamaForCausalLM": lambda: Transformer(ModelConfig(**SHAPE)),
    "GPT2LMHeadModel": lambda: Transformer(ModelConfig(family="gpt2", **SHAPE)),
    "BertForMaskedLM": lambda: Transformer(ModelConfig(family="bert", **SHAPE, num_token_types=2)),
    "BertForSequenceClassification": lambda: ClassifierModel(ModelConfig(family="bert", **SHAPE), 3),
    "EuroBertForSequenceClassification": lambda: ClassifierModel(ModelConfig(family="eurobert", **SHAPE), 3),
    "LlamaForSequenceClassification": lambda: ScalarModel(ModelConfig(**SHAPE)),
    "MarianMTModel": lambda: build_model(ModelConfig(family="encoder-decoder", **SHAPE)),
}


@pytest.mark.parametrize("name", MODELS)
def test_shards_in_bf16_are_the_model_in_its_class(name, tmp_path, byte_tokenizer):
    import transformers

    model = MODELS[name]()
    save_model(model, tmp_path / "model", byte_tokenizer)
    made = export_model(tmp_path / "model", tmp_path / "out", "bf16", shard_bytes=20_000)
    assert made.model_class == name
    assert made.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert made.files == len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    other, told = getattr(transformers, name).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert other.dtype == torch.bfloat16
    for key, parameter in load_any(tmp_path / "out").named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[key].bfloat16().float())


def test_no_file_is_larger_than_a_shard_may_be(tmp_path, byte_tokenizer):
    save_model(MODELS["LlamaForCausalLM"](), tmp_path / "model", byte_tokenizer)
    export_model(tmp_path / "model", tmp_path / "out", shard_bytes=40_000)
    sizes = [sum(t.numel() * 4 for t in load_file(path).values()) for path in (tmp_path / "out").glob("*.safetensors")]
    assert max(sizes) <= 40_000
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == sum(sizes)


def test_the_scale_of_a_reward_model_travels(tmp_path, byte_tokenizer):
    save_model(MODELS["LlamaForSequenceClassification"](), tmp_path / "model", byte_tokenizer)
    (tmp_path / "model" / "reward.json").write_text('{"score_mean": 1}', encoding="utf-8")
    export_model(tmp_path / "model", tmp_path / "out")
    assert (tmp_path / "out" / "reward.json").read_text(encoding="utf-8") == '{"score_mean": 1}'


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, byte_tokenizer):
    save_model(MODELS["GPT2LMHeadModel"](), tmp_path / "model", byte_tokenizer)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="something"):
        export_model(tmp_path / "model", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["letter.txt"]


def test_a_weight_too_large_for_half_precision_is_named(tmp_path, byte_tokenizer):
    model = MODELS["LlamaForCausalLM"]()
    model.backbone.norm.weight.data[3] = 70_000.0
    save_model(model, tmp_path / "model", byte_tokenizer)
    with pytest.raises(StepError, match=r"backbone\.norm\.weight"):
        export_model(tmp_path / "model", tmp_path / "out", "fp16")
    assert export_model(tmp_path / "model", tmp_path / "out", "bf16").files == 1


def test_what_no_class_can_express_is_ours_alone(tmp_path, byte_tokenizer):
    """A GPT-2 with rotary positions: written for our own commands with a sentence, and refused as an export."""
    model = Transformer(ModelConfig(family="gpt2", **SHAPE, positions="rope"))
    sentence = save_model(model, tmp_path / "model", byte_tokenizer)
    assert "headwater alone" in sentence
    assert "model." in sentence
    again = load_any(tmp_path / "model")
    assert again.config == model.config
    tokens = torch.arange(10, 40)[None]
    assert torch.equal(again(tokens), model(tokens))
    with pytest.raises(StepError, match=r"No class of transformers has model\."):
        export_model(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_changes_a_number_is_caught(tmp_path, byte_tokenizer, monkeypatch):
    import components.model.huggingface.weights as weights

    def lose(tensors, path, metadata):
        name = "model.norm.weight"
        save_file({**tensors, name: tensors[name] + 1e-3}, path, metadata)

    save_model(MODELS["LlamaForCausalLM"](), tmp_path / "model", byte_tokenizer)
    monkeypatch.setattr(weights, "save_file", lose)
    with pytest.raises(StepError, match=r"backbone\.norm\.weight is not what was written"):
        export_model(tmp_path / "model", tmp_path / "out")
