"""Every sort of model in a checkpoint: the bits that were put in come out, and transformers reads the same logits."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import transformers

from components.model.config import ModelConfig
from components.model.encoder_decoder import EncoderDecoder
from components.model.external import ExternalModel, ExternalScalar
from components.model.heads import ClassifierModel, ScalarModel
from components.model.transformer import Transformer
from components.training.checkpoint import newest_verified, save_checkpoint
from components.training.model_folder import ModelFolder

SMALL = {"vocab_size": 263, "dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 4, "max_length": 64}
LLAMA = ModelConfig(**{**SMALL, "num_kv_heads": 2}, ffn_dim=48)
GPT2 = ModelConfig(family="gpt2", **SMALL, ffn_dim=48)
BLOOM = dataclasses.replace(GPT2, positions="alibi", embed_norm=True, ffn_dim=128)
BERT = ModelConfig(family="bert", **SMALL, ffn_dim=48, num_token_types=2)
EUROBERT = dataclasses.replace(LLAMA, family="eurobert")
MARIAN = ModelConfig(family="encoder-decoder", **SMALL, ffn_dim=48, logits_bias=True)
BART = dataclasses.replace(MARIAN, positions="learned", embed_norm=True)
T5 = ModelConfig(
    family="encoder-decoder", **SMALL, ffn_dim=48, positions="t5", norm="rmsnorm", norm_eps=1e-6, post_norm=False,
    bias=False, scale_embeddings=False, scale_attention=False, scale_output=True,
)  # fmt: skip
OWN = dataclasses.replace(LLAMA, positions="sinusoidal")
LABELS = ("bad", "fair", "good")


@pytest.fixture(autouse=True)
def seeded():
    """Models of transformers draw from torch's global generator."""
    torch.manual_seed(5)


def drawn(model):
    """The model with every parameter drawn, zeros and ones too: a mistake in any of them shows."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def external():
    config = transformers.AutoConfig.for_model(
        "qwen2", vocab_size=263, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    return ExternalModel(transformers.AutoModelForCausalLM.from_config(config))


LANGUAGE, MASKED, SEQUENCE = (f"AutoModelFor{name}" for name in ("CausalLM", "MaskedLM", "Seq2SeqLM"))
LABEL = "AutoModelForSequenceClassification"
MODELS = {
    "llama": (lambda: Transformer(LLAMA), LANGUAGE, "LlamaForCausalLM"),
    "gpt2": (lambda: Transformer(GPT2), LANGUAGE, "GPT2LMHeadModel"),
    "bloom": (lambda: Transformer(BLOOM), LANGUAGE, "BloomForCausalLM"),
    "qwen2": (external, LANGUAGE, "Qwen2ForCausalLM"),
    "scored llama": (lambda: ScalarModel(LLAMA), LABEL, "LlamaForSequenceClassification"),
    "scored gpt2": (lambda: ScalarModel(GPT2), LABEL, "GPT2ForSequenceClassification"),
    "scored qwen2": (lambda: ExternalScalar.from_language(external()), LABEL, "Qwen2ForSequenceClassification"),
    "bert": (lambda: Transformer(BERT), MASKED, "BertForMaskedLM"),
    "labelling bert": (lambda: ClassifierModel(BERT, len(LABELS)), LABEL, "BertForSequenceClassification"),
    "eurobert": (lambda: Transformer(EUROBERT), MASKED, "EuroBertForMaskedLM"),
    "labelling eurobert": (lambda: ClassifierModel(EUROBERT, len(LABELS)), LABEL, "EuroBertForSequenceClassification"),
    "marian": (lambda: EncoderDecoder(MARIAN), SEQUENCE, "MarianMTModel"),
    "bart": (lambda: EncoderDecoder(BART), SEQUENCE, "BartForConditionalGeneration"),
    "t5": (lambda: EncoderDecoder(T5), SEQUENCE, "T5ForConditionalGeneration"),
}
OURS_ALONE = {"language": lambda: Transformer(OWN), "scalar": lambda: ScalarModel(OWN)}
BUILDERS = {**{name: build for name, (build, _, _) in MODELS.items()}, **OURS_ALONE}


def tokens():
    return torch.randint(7, 263, (3, 12), generator=torch.Generator().manual_seed(5))


def logits_of(model):
    """Of our model."""
    if isinstance(model, EncoderDecoder):
        return model(tokens(), tokens().flip(1))
    scored = isinstance(model, ScalarModel | ExternalScalar)
    return model(tokens())[:, -1:] if scored else model(tokens())


def logits_in_transformers(model):
    decoder = {"decoder_input_ids": tokens().flip(1)} if model.config.is_encoder_decoder else {}
    return model.eval()(tokens(), **decoder).logits


def put(model, tokenizer, folder, place=""):
    """Writes a model as a checkpoint does."""
    labels = LABELS if isinstance(model, ClassifierModel) else ()
    files = ModelFolder.of(model, model.config, tokenizer, labels, place)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    files.write(folder, weights)
    return files, weights


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_what_is_read_has_the_bits_of_what_was_written(build, tmp_path, byte_tokenizer):
    files, weights = put(drawn(build()), byte_tokenizer, tmp_path)
    back = files.read(tmp_path)
    assert set(weights) <= set(back)
    assert all(torch.equal(back[key], weight) for key, weight in weights.items())


@pytest.mark.parametrize("config", [LLAMA, OWN])
def test_a_weight_is_read_when_it_is_asked_for_and_no_other_is_held(config, tmp_path, byte_tokenizer):
    files, _ = put(Transformer(config), byte_tokenizer, tmp_path)
    back = files.read(tmp_path)
    _, weights = put(drawn(Transformer(config)), byte_tokenizer, tmp_path)
    assert all(torch.equal(back[key], weight) for key, weight in weights.items())


@pytest.mark.parametrize(("build", "auto", "known"), MODELS.values(), ids=MODELS)
def test_transformers_has_a_class_for_it_that_gives_the_same_logits(build, auto, known, tmp_path, byte_tokenizer):
    model = drawn(build())
    put(model, byte_tokenizer, tmp_path)
    theirs, told = getattr(transformers, auto).from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs).__name__ == known
    assert not told["missing_keys"]
    with torch.no_grad():
        ours = logits_of(model)
        assert ours.std() > 0.1
        torch.testing.assert_close(logits_in_transformers(theirs), ours, atol=1e-5, rtol=1e-5)


def test_a_classifier_names_its_labels(tmp_path, byte_tokenizer):
    put(ClassifierModel(BERT, len(LABELS)), byte_tokenizer, tmp_path)
    assert transformers.AutoConfig.from_pretrained(tmp_path).id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize(("sort", "build"), OURS_ALONE.items(), ids=OURS_ALONE)
def test_a_model_that_no_class_has_is_in_our_own_format(sort, build, tmp_path, byte_tokenizer):
    put(build(), byte_tokenizer, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert values["architectures"] == [f"Headwater{sort.capitalize()}Model"]


def test_two_models_of_one_training_lie_in_one_checkpoint_and_each_is_guarded(tmp_path, byte_tokenizer):
    actor, critic = drawn(Transformer(LLAMA)), drawn(ScalarModel(LLAMA))
    files = [
        ModelFolder.of(one, LLAMA, byte_tokenizer, place=place) for one, place in ((actor, ""), (critic, "critic"))
    ]
    models = [(one, model.state_dict()) for one, model in zip(files, (actor, critic), strict=True)]
    path = save_checkpoint(tmp_path, 5, {"actor_optimizer": {}, "critic_optimizer": {}}, {}, models)
    found = newest_verified(tmp_path, pytest.fail)
    assert found is not None
    for one, model in zip(files, (actor, critic), strict=True):
        back = one.read(found.path)
        assert all(torch.equal(back[name], weight) for name, weight in model.state_dict().items())
    with torch.no_grad():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(path)
        torch.testing.assert_close(logits_in_transformers(theirs), logits_of(actor), atol=1e-5, rtol=1e-5)
        judge = transformers.AutoModelForSequenceClassification.from_pretrained(path / "critic")
        torch.testing.assert_close(logits_in_transformers(judge), logits_of(critic), atol=1e-5, rtol=1e-5)
    content = bytearray((path / "critic" / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "critic" / "model.safetensors").write_bytes(content)
    said: list[str] = []
    assert newest_verified(tmp_path, said.append) is None
    assert said == ["checkpoint step-000005 is skipped: critic/model.safetensors is not what was written"]
