"""The folder format, with transformers as the judge in both directions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.errors import StepError
from components.model.config import ModelConfig
from components.model.heads import ScalarModel
from components.model.huggingface import (
    UnlikeOursError,
    hugging_face_config,
    load_encoder_decoder,
    load_scalar,
    load_transformer,
    read_config,
    save_model,
)
from components.model.transformer import Transformer, build_model

TIED = ModelConfig(
    vocab_size=263, dim=48, num_layers=3, num_heads=6, num_kv_heads=2, ffn_dim=64, max_length=64, rope_theta=5000.0
)
UNTIED = dataclasses.replace(TIED, tie_embeddings=False, num_kv_heads=6, norm_eps=1e-6)


def make(config, seed=0):
    """A model whose logits spread as a trained one's do: an error of position or head shows."""
    model = Transformer(config, torch.Generator().manual_seed(seed))
    table = model.backbone.embed if model.lm_head is None else model.lm_head
    table.weight.data *= 20
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


def draw(*shape, seed=5):
    """Tokens that are text: transformers gives the padding token's embedding no gradient."""
    return torch.randint(7, 263, shape, generator=torch.Generator().manual_seed(seed))


def theirs(folder, **changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    settings = {
        "vocab_size": 263,
        "hidden_size": 32,
        "intermediate_size": 88,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "max_position_embeddings": 100,
        "initializer_range": 0.2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 700.0},
    }
    model = LlamaForCausalLM(LlamaConfig(**(settings | changes)))
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
def test_transformers_reads_our_folder_with_equal_logits_and_loss(config, tmp_path, byte_tokenizer):
    from transformers import AutoModelForCausalLM

    model, tokens = make(config), draw(4, 40)
    save_model(model, tmp_path, byte_tokenizer)
    other = AutoModelForCausalLM.from_pretrained(tmp_path)
    logits = model(tokens)
    assert logits.std() > 0.5
    # In double precision: in single, processors round logits of this size apart by about the tolerance itself.
    assert (other.double()(tokens).logits - model.double()(tokens)).abs().max() < 1e-5
    ours = model(tokens[:, :-1], tokens[:, 1:]).item() / tokens[:, 1:].numel()
    assert other(tokens, labels=tokens).loss.item() == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize("tie", [True, False])
def test_we_read_a_transformers_folder_with_equal_logits(tie, tmp_path):
    other, tokens = theirs(tmp_path, tie_word_embeddings=tie), draw(3, 30)
    model = load_transformer(tmp_path)
    assert model.config.rope_theta == 700
    assert model.config.tie_embeddings is tie
    assert (other(tokens).logits - model(tokens)).abs().max() < 1e-5


def test_one_optimizer_step_equals_that_of_transformers(tmp_path, byte_tokenizer):
    from transformers import AutoModelForCausalLM

    model, tokens = make(TIED), draw(4, 33)
    save_model(model, tmp_path / "before", byte_tokenizer)
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "before")
    (model(tokens[:, :-1], tokens[:, 1:]) / 128).backward()
    other(tokens, labels=tokens).loss.backward()
    for parameters in (model.parameters(), other.parameters()):
        torch.optim.SGD(parameters, lr=0.5).step()
    save_model(model, tmp_path / "after", byte_tokenizer)
    after = load_file(tmp_path / "after" / "model.safetensors")
    for name, weight in other.named_parameters():
        torch.testing.assert_close(
            after[name], weight.detach(), rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_folder_read_back_holds_the_same_bits(tmp_path, byte_tokenizer):
    model = make(UNTIED)
    save_model(model, tmp_path, byte_tokenizer)
    again = load_transformer(tmp_path)
    assert again.config == UNTIED
    state = again.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_a_gathered_state_dict_is_as_good_as_a_model(tmp_path, byte_tokenizer):
    model, tokens = make(TIED), draw(1, 10)
    save_model((TIED, model.state_dict()), tmp_path, byte_tokenizer)
    assert torch.equal(load_transformer(tmp_path)(tokens), model(tokens))


def test_a_scalar_model_is_a_sequence_classifier_and_a_language_model_to_transformers(tmp_path, byte_tokenizer):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    model, tokens = make(TIED), draw(3, 12)
    scalar = ScalarModel.from_transformer(model, torch.Generator().manual_seed(1))
    save_model(scalar, tmp_path, byte_tokenizer)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert (classifier(tokens).logits[:, 0] - scalar(tokens)[:, -1]).abs().max() < 1e-5
    assert (AutoModelForCausalLM.from_pretrained(tmp_path)(tokens).logits - model(tokens)).abs().max() < 1e-5
    assert torch.equal(load_scalar(tmp_path)(tokens), scalar(tokens))
    assert torch.equal(load_transformer(tmp_path)(tokens), model(tokens))


def test_the_tokenizer_travels_with_the_model_and_generation_ends_at_our_tokens(tmp_path, byte_tokenizer):
    from transformers import AutoTokenizer, GenerationConfig

    save_model(make(TIED), tmp_path, byte_tokenizer)
    assert AutoTokenizer.from_pretrained(tmp_path)("hi")["input_ids"] == [
        AutoTokenizer.from_pretrained(byte_tokenizer).convert_tokens_to_ids(letter) for letter in "hi"
    ]
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == [2, 6]


def test_sharded_half_precision_folders_are_read(tmp_path):
    from transformers import LlamaForCausalLM

    theirs(tmp_path / "whole").bfloat16().save_pretrained(tmp_path / "parts", max_shard_size="20kB")
    other, tokens = LlamaForCausalLM.from_pretrained(tmp_path / "parts", dtype=torch.float32), draw(1, 9)
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    model = load_transformer(tmp_path / "parts")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert (other(tokens).logits - model(tokens)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "linear"),
    ],
)
def test_a_llama_that_ours_cannot_equal_is_refused(changes, named, tmp_path):
    theirs(tmp_path, **changes)
    with pytest.raises(StepError, match=named):
        load_transformer(tmp_path)


def test_another_model_type_is_refused_by_its_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}), encoding="utf-8")
    with pytest.raises(StepError, match="mamba"):
        read_config(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(StepError, match="no model folder"):
        load_transformer(tmp_path)


def test_a_damaged_weight_file_is_refused(tmp_path):
    theirs(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StepError, match="damaged"):
        load_transformer(tmp_path)


def test_weights_that_miss_a_layer_are_refused(tmp_path):
    theirs(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(StepError, match="up_proj"):
        load_transformer(tmp_path)


def test_a_language_model_is_no_reward_model(tmp_path, byte_tokenizer):
    save_model(make(TIED), tmp_path, byte_tokenizer)
    with pytest.raises(StepError, match="not a reward model"):
        load_scalar(tmp_path)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(tmp_path, byte_tokenizer):
    model = Transformer(dataclasses.replace(TIED, vocab_size=200))
    with pytest.raises(StepError, match="ids up to 262"):
        save_model(model, tmp_path, byte_tokenizer)


def test_a_model_folder_without_a_tokenizer_is_never_written(tmp_path):
    with pytest.raises(StepError, match="tokenizer"):
        save_model(make(TIED), tmp_path / "model", tmp_path)
    assert not (tmp_path / "model" / "config.json").exists()


def gpt2(folder, **changes):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    settings = {"vocab_size": 263, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    model = GPT2LMHeadModel(GPT2Config(**(settings | changes)))
    model.save_pretrained(folder)
    return model.eval()


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"scale_attn_weights": False}, "scale_attn_weights"),
        ({"activation_function": "tanh"}, "activation_function"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"resid_pdrop": 0.3}, "embd_pdrop"),
    ],
)
def test_a_gpt2_that_ours_cannot_equal_is_refused(changes, named, tmp_path):
    gpt2(tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(UnlikeOursError, match=named):
        load_transformer(tmp_path)


def test_the_folder_of_a_bare_backbone_is_read(tmp_path):
    """Published GPT-2 and BLOOM weights have no prefix, and GPT-2's old files hold its causal mask."""
    from transformers import GPT2Model

    other = gpt2(tmp_path / "whole")
    other.transformer.save_pretrained(tmp_path / "bare")
    assert isinstance(GPT2Model.from_pretrained(tmp_path / "bare"), GPT2Model)
    change_weights(tmp_path / "bare", lambda tensors: {**tensors, "h.0.attn.bias": torch.ones(1, 1, 64, 64).tril()})
    tokens = draw(2, 20)
    assert (other(tokens).logits - load_transformer(tmp_path / "bare").eval()(tokens)).abs().max() < 1e-5


def test_old_names_of_layer_norms_are_read(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    other = BertForMaskedLM(BertConfig(vocab_size=263, **size)).eval()
    other.save_pretrained(tmp_path)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def age(tensors):
        for new, before in old.items():
            tensors = {name.replace(new, before): tensor for name, tensor in tensors.items()}
        return {**tensors, "cls.seq_relationship.weight": torch.zeros(2, 32), "bert.pooler.dense.bias": torch.zeros(32)}

    change_weights(tmp_path, age)
    tokens = draw(2, 20)
    assert (other(tokens).logits - load_transformer(tmp_path).eval()(tokens)).abs().max() < 1e-5


def test_a_weight_without_a_place_is_refused(tmp_path):
    gpt2(tmp_path)
    change_weights(tmp_path, lambda tensors: {**tensors, "transformer.h.0.adapter.weight": torch.ones(2)})
    with pytest.raises(StepError, match=r"adapter\.weight"):
        load_transformer(tmp_path)


def test_two_tables_that_should_be_one_are_refused(tmp_path):
    from transformers import BartConfig, BartForConditionalGeneration

    size = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1}
    size |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    BartForConditionalGeneration(BartConfig(vocab_size=263, **size)).save_pretrained(tmp_path)
    assert load_encoder_decoder(tmp_path).config.num_encoder_layers == 0
    change_weights(tmp_path, lambda tensors: {**tensors, "model.encoder.embed_tokens.weight": torch.ones(263, 32)})
    with pytest.raises(StepError, match=r"not equal to model\.shared"):
        load_encoder_decoder(tmp_path)


def test_an_encoder_decoder_is_no_transformer_and_the_other_way_round(tmp_path, byte_tokenizer):
    config = ModelConfig(family="encoder-decoder", vocab_size=263, dim=16, num_layers=1, num_heads=2, num_kv_heads=2)
    save_model(build_model(config), tmp_path / "two", byte_tokenizer)
    save_model(make(TIED), tmp_path / "one", byte_tokenizer)
    with pytest.raises(StepError, match="encoder-decoder"):
        load_transformer(tmp_path / "two")
    with pytest.raises(StepError, match="no encoder-decoder"):
        load_encoder_decoder(tmp_path / "one")


def test_a_mixture_with_one_expert_per_token_is_no_mixtral(tmp_path, byte_tokenizer):
    """Where one expert answers, transformers gives it the weight 1 and we its probability."""
    config = dataclasses.replace(TIED, num_experts=4, experts_per_token=1)
    sentence = save_model(Transformer(config), tmp_path, byte_tokenizer)
    assert "model.experts_per_token=1" in sentence
    assert load_transformer(tmp_path).config == config
    change_config(tmp_path, model_type="mystery")
    with pytest.raises(UnlikeOursError, match="mystery"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"family": "gpt2", "positions": "t5", "num_kv_heads": 6}, "positions=t5"),
        ({"qk_norm": True, "bias": True}, "qk_norm=True"),
        ({"norm": "layernorm"}, "norm=layernorm"),
        ({"activation": "relu2"}, "activation=relu2"),
        ({"post_norm": True}, "post_norm=True"),
    ],
)
def test_the_sentence_names_the_setting_that_no_class_has(changes, named, tmp_path, byte_tokenizer):
    config = dataclasses.replace(TIED, **changes)
    sentence = save_model(Transformer(config), tmp_path, byte_tokenizer)
    assert f"model.{named}" in sentence
    assert load_transformer(tmp_path).config == config
    with pytest.raises(StepError, match=named):
        hugging_face_config(config)


def test_an_index_of_an_earlier_write_does_not_outlive_it(tmp_path, byte_tokenizer):
    save_model(make(TIED, seed=1), tmp_path, byte_tokenizer, shard_bytes=20_000)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    model, tokens = make(TIED, seed=2), draw(1, 9)
    save_model(model, tmp_path, byte_tokenizer)
    assert torch.equal(load_transformer(tmp_path)(tokens), model(tokens))
    save_model(model, tmp_path, byte_tokenizer, shard_bytes=20_000)
    assert torch.equal(load_transformer(tmp_path)(tokens), model(tokens))
    assert not (tmp_path / "model.safetensors").exists()


def test_what_the_base_says_of_generation_travels(tmp_path, byte_tokenizer):
    save_model(make(TIED), tmp_path / "base", byte_tokenizer)
    path = tmp_path / "base" / "generation_config.json"
    path.write_text(json.dumps({"temperature": 0.7, "eos_token_id": 9}), encoding="utf-8")
    save_model(make(TIED), tmp_path / "tuned", tmp_path / "base")
    values = json.loads((tmp_path / "tuned" / "generation_config.json").read_text(encoding="utf-8"))
    assert values["temperature"] == 0.7
    assert values["eos_token_id"] == [2, 6]


@pytest.mark.parametrize(("ties", "scales"), [({}, True), ({"tie_word_embeddings": False}, False)])
def test_an_old_t5_tells_by_its_ties_whether_it_scales_its_output(ties, scales, tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=263, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["scale_decoder_outputs"], values["tie_word_embeddings"]
    path.write_text(json.dumps(values | ties), encoding="utf-8")
    assert read_config(tmp_path).scale_output is scales


PUBLISHED = {
    "bart-base": "BartForConditionalGeneration",
    "bert-base": "BertForMaskedLM",
    "bloom-560m": "BloomForCausalLM",
    "gpt2-124m": "GPT2LMHeadModel",
    "llama-1b": "LlamaForCausalLM",
    "llama-8b": "LlamaForCausalLM",
    "mixtral-8x7b": "MixtralForCausalLM",
    "qwen3-0.6b": "Qwen3ForCausalLM",
    "t5-small": "T5ForConditionalGeneration",
    "transformer-base": "MarianMTModel",
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_of_a_published_shape_is_written_in_its_class(preset):
    import yaml

    path = Path(__file__).parents[3] / "conf" / "model" / f"{preset}.yaml"
    config = ModelConfig(vocab_size=32000, **yaml.safe_load(path.read_text(encoding="utf-8")))
    assert hugging_face_config(config)["architectures"] == [PUBLISHED[preset]]
