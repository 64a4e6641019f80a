"""The classes of Hugging Face that our models can be written as and read from: one table each.

A `Kind` says which of our settings its config.json holds under which names, what every model of the class has in
common, and which of its own settings must have which value for our logits to be its logits. Both directions read the
same table. What a class can express is not listed anywhere: a config is expressible if it is the same after it was
written and read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from components.model.config import ModelConfig
from components.model.huggingface import names
from components.model.huggingface.forms import Rule
from components.tokenizer.special import MASK

Values: TypeAlias = Mapping[str, object]

LANGUAGE, SCALAR, CLASSIFIER = "language", "scalar", "classifier"
POOLING = "mean"
"""What a classifier of the type eurobert makes of its tokens, as `ClassifierModel` does."""


class _Needed:
    """Stands for a setting without a default."""


NEEDED: Final = _Needed()


@dataclass(frozen=True)
class Field:
    """A setting both sides have.

    Attributes:
        ours: Field of `ModelConfig`.
        theirs: Key of config.json.
        default: What transformers takes where the key is missing or null, or how it is worked out from the others.
        twins: Further keys that hold the same value; a model in which they differ is none of ours.
        words: For names: our word to theirs, the first of which is written.
        least: Smallest number that they can have.
    """

    ours: str
    theirs: str
    default: object | Callable[[Values], object] = NEEDED
    twins: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] | None = None
    least: int = 0


@dataclass(frozen=True)
class Zeros:
    """A tensor that every folder of a type has, and that is all zeros where our model has no such parameter.

    Attributes:
        theirs: Its name.
        ours: Our setting that says whether there is one; false or 0 if not.
        shape: Of the zeros.
    """

    theirs: str
    ours: str
    shape: Callable[[ModelConfig], tuple[int, ...]]


@dataclass(frozen=True)
class Kind:
    """One model type of Hugging Face.

    Attributes:
        model_type: Its name in config.json.
        family: Our family.
        heads: Class by what stands on the backbone.
        rules: Names of its weights.
        fields: Settings both sides have.
        same: Settings of ours, other than the family's, that every model of the type has; a function works it out from
            those read.
        wanted: Settings of theirs with the values under which our logits are theirs; the first is written.
        told: Settings of theirs without influence on logits that are written: dropout that we do not have.
        foreign: Of our settings: a value for which the type computes something else, and another for which it does not.
        prefix: Begins the names of the backbone; the folder of a bare backbone leaves it out.
        output: Name of the output projection.
        always_ties: Whether it ties the output whatever config.json says, unless the weights have one of their own.
        zeros: A tensor that may be all zeros for want of one of ours.
        copies: Further names of a tensor by the name of the first, for what transformers ties together; where nothing
            is tied they are written too.
        unread: Patterns of tensors that no logit depends on.
        rope_theta: Base of its rotary wavelengths where config.json names none; 0 if it has no rotary positions.
    """

    model_type: str
    family: str
    heads: Mapping[str, str]
    rules: tuple[Rule, ...]
    fields: tuple[Field, ...]
    same: Mapping[str, object | Callable[[Values], object]] = field(default_factory=dict)
    wanted: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    told: Mapping[str, object] = field(default_factory=dict)
    foreign: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    prefix: str = "model."
    output: str = "lm_head.weight"
    always_ties: bool = False
    zeros: Zeros | None = None
    copies: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    rope_theta: float = 0.0


PLAIN = {
    "gelu": ("gelu",),
    "gelu-tanh": ("gelu_new", "gelu_pytorch_tanh"),
    "relu": ("relu",),
    "relu2": ("relu2",),
    "silu": ("silu", "swish"),
}
GATES = {"swiglu": ("silu", "swish"), "geglu": ("gelu_pytorch_tanh", "gelu_new")}


def _heads_of(values: Values) -> object:
    return values["num_attention_heads"]


def _own_heads(read: Values) -> object:
    return read["num_heads"]


_LLAMA_FIELDS = (
    Field("vocab_size", "vocab_size"),
    Field("dim", "hidden_size"),
    Field("num_layers", "num_hidden_layers"),
    Field("num_heads", "num_attention_heads"),
    Field("num_kv_heads", "num_key_value_heads", _heads_of),
    Field("ffn_dim", "intermediate_size"),
    Field("tie_embeddings", "tie_word_embeddings", False),
    Field("activation", "hidden_act", "silu", words=GATES),
)
_ROTARY_TABLES = (r".*rotary_emb\.inv_freq",)

LLAMA = Kind(
    model_type="llama",
    family="llama",
    heads={LANGUAGE: "LlamaForCausalLM", SCALAR: "LlamaForSequenceClassification"},
    rules=names.LLAMA,
    fields=(
        *_LLAMA_FIELDS,
        Field("head_width", "head_dim", 0),
        Field("max_length", "max_position_embeddings", 2048),
        Field("norm_eps", "rms_norm_eps", 1e-6),
        Field("bias", "attention_bias", False, twins=("mlp_bias",)),
    ),
    unread=_ROTARY_TABLES,
    rope_theta=10000.0,
)

EUROBERT = Kind(
    model_type="eurobert",
    family="eurobert",
    heads={LANGUAGE: "EuroBertForMaskedLM", CLASSIFIER: "EuroBertForSequenceClassification"},
    rules=names.EUROBERT,
    fields=(
        *_LLAMA_FIELDS,
        Field("head_width", "head_dim", 0),
        Field("max_length", "max_position_embeddings", 8192),
        Field("norm_eps", "rms_norm_eps", 1e-5),
    ),
    wanted={"attention_bias": (False,), "mlp_bias": (False,)},
    told={"classifier_pooling": POOLING, "mask_token_id": MASK},
    unread=(*_ROTARY_TABLES, r"dense\..*", r"classifier\..*"),
    rope_theta=10000.0,
)

QWEN3 = Kind(
    model_type="qwen3",
    family="llama",
    heads={LANGUAGE: "Qwen3ForCausalLM", SCALAR: "Qwen3ForSequenceClassification"},
    rules=names.LLAMA,
    fields=(
        *_LLAMA_FIELDS,
        Field("head_width", "head_dim", 128),
        Field("max_length", "max_position_embeddings", 32768),
        Field("norm_eps", "rms_norm_eps", 1e-6),
    ),
    same={"qk_norm": True},
    wanted={"attention_bias": (False,), "use_sliding_window": (False,)},
    unread=_ROTARY_TABLES,
    rope_theta=10000.0,
)

MIXTRAL = Kind(
    model_type="mixtral",
    family="llama",
    heads={LANGUAGE: "MixtralForCausalLM", SCALAR: "MixtralForSequenceClassification"},
    rules=names.MIXTRAL,
    fields=(
        *_LLAMA_FIELDS,
        Field("head_width", "head_dim", 0),
        Field("max_length", "max_position_embeddings", 131072),
        Field("norm_eps", "rms_norm_eps", 1e-5),
        Field("num_experts", "num_local_experts", 8),
        Field("experts_per_token", "num_experts_per_tok", 2),
        Field("router_loss", "router_aux_loss_coef", 0.001),
    ),
    wanted={"sliding_window": (None,)},
    foreign={"experts_per_token": (1, 2)},  # transformers gives a lone expert the weight 1, we its probability
    unread=_ROTARY_TABLES,
    rope_theta=1000000.0,
)

_MULTI_HEAD = {"num_kv_heads": _own_heads}

GPT2 = Kind(
    model_type="gpt2",
    family="gpt2",
    heads={LANGUAGE: "GPT2LMHeadModel", SCALAR: "GPT2ForSequenceClassification"},
    rules=names.GPT2,
    fields=(
        Field("vocab_size", "vocab_size", 50257),
        Field("dim", "n_embd", 768),
        Field("num_layers", "n_layer", 12),
        Field("num_heads", "n_head", 12),
        Field("ffn_dim", "n_inner", lambda values: 4 * int(str(values.get("n_embd", 768)))),
        Field("max_length", "n_positions", 1024),
        Field("norm_eps", "layer_norm_epsilon", 1e-5),
        Field("tie_embeddings", "tie_word_embeddings", True),
        Field("activation", "activation_function", "gelu_new", words=PLAIN),
        Field("dropout", "resid_pdrop", 0.1, twins=("embd_pdrop",)),
    ),
    same=_MULTI_HEAD,
    wanted={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    told={"attn_pdrop": 0.0},
    prefix="transformer.",
    unread=(r".*\.attn\.(masked_)?bias",),
)

BLOOM = Kind(
    model_type="bloom",
    family="gpt2",
    heads={LANGUAGE: "BloomForCausalLM", SCALAR: "BloomForSequenceClassification"},
    rules=names.BLOOM,
    fields=(
        Field("vocab_size", "vocab_size", 250880),
        Field("dim", "hidden_size", lambda values: values.get("n_embed") or 64),
        Field("num_layers", "n_layer", 2),
        Field("num_heads", "n_head", 8),
        Field("max_length", "seq_length", 2048),
        Field("norm_eps", "layer_norm_epsilon", 1e-5),
        Field("tie_embeddings", "tie_word_embeddings", True),
        Field("dropout", "hidden_dropout", 0.0),
    ),
    same={
        **_MULTI_HEAD,
        "positions": "alibi",
        "embed_norm": True,
        "ffn_dim": lambda read: 4 * int(str(read["dim"])),
    },
    wanted={"apply_residual_connection_post_layernorm": (False,)},
    prefix="transformer.",
)

BERT = Kind(
    model_type="bert",
    family="bert",
    heads={LANGUAGE: "BertForMaskedLM", CLASSIFIER: "BertForSequenceClassification"},
    rules=names.BERT,
    fields=(
        Field("vocab_size", "vocab_size", 30522),
        Field("dim", "hidden_size", 768),
        Field("num_layers", "num_hidden_layers", 12),
        Field("num_heads", "num_attention_heads", 12),
        Field("ffn_dim", "intermediate_size", 3072),
        Field("max_length", "max_position_embeddings", 512),
        Field("norm_eps", "layer_norm_eps", 1e-12),
        Field("tie_embeddings", "tie_word_embeddings", True),
        Field("activation", "hidden_act", "gelu", words=PLAIN),
        Field("num_token_types", "type_vocab_size", 2, least=1),
        Field("dropout", "hidden_dropout_prob", 0.1),
    ),
    same=_MULTI_HEAD,
    wanted={
        "is_decoder": (False,),
        "add_cross_attention": (False,),
        "position_embedding_type": ("absolute", None),
    },
    told={"attention_probs_dropout_prob": 0.0},
    prefix="bert.",
    output="cls.predictions.decoder.weight",
    zeros=Zeros("bert.embeddings.token_type_embeddings.weight", "num_token_types", lambda config: (1, config.dim)),
    copies={"cls.predictions.decoder.bias": "cls.predictions.bias"},
    unread=(
        r"bert\.embeddings\.position_ids",
        r"cls\.seq_relationship\..*",
        r"bert\.pooler\..*",
        r"cls\.predictions\..*",
        r"classifier\..*",
    ),
)

_TRANSLATOR_FIELDS = (
    Field("dim", "d_model", 1024),
    Field("num_layers", "decoder_layers", 12),
    Field("num_encoder_layers", "encoder_layers", 12),
    Field("num_heads", "decoder_attention_heads", 16, twins=("encoder_attention_heads",)),
    Field("ffn_dim", "decoder_ffn_dim", 4096, twins=("encoder_ffn_dim",)),
    Field("max_length", "max_position_embeddings", 1024),
    Field("tie_embeddings", "tie_word_embeddings", True),
    Field("activation", "activation_function", "gelu", words=PLAIN),
    Field("scale_embeddings", "scale_embedding", False),
    Field("dropout", "dropout", 0.1),
)
_TRANSLATOR = {**_MULTI_HEAD, "norm_eps": 1e-5}
_LOGITS_BIAS = Zeros("final_logits_bias", "logits_bias", lambda config: (1, config.vocab_size))
_SHARED = {f"model.{side}.embed_tokens.weight": "model.shared.weight" for side in ("encoder", "decoder")}

MARIAN = Kind(
    model_type="marian",
    family="encoder-decoder",
    heads={LANGUAGE: "MarianMTModel"},
    rules=names.MARIAN,
    fields=(Field("vocab_size", "vocab_size", twins=("decoder_vocab_size",)), *_TRANSLATOR_FIELDS),
    same=_TRANSLATOR,
    wanted={"share_encoder_decoder_embeddings": (True,), "normalize_before": (False, None)},
    zeros=_LOGITS_BIAS,
    copies=_SHARED,
    unread=(r"model\.(en|de)coder\.embed_positions\.weight",),
)

BART = Kind(
    model_type="bart",
    family="encoder-decoder",
    heads={LANGUAGE: "BartForConditionalGeneration"},
    rules=names.BART,
    fields=(Field("vocab_size", "vocab_size", 50265), *_TRANSLATOR_FIELDS),
    same={**_TRANSLATOR, "positions": "learned", "embed_norm": True},
    wanted={"normalize_before": (False, None), "normalize_embedding": (True, None)},
    zeros=_LOGITS_BIAS,
    copies=_SHARED,
)

T5 = Kind(
    model_type="t5",
    family="encoder-decoder",
    heads={LANGUAGE: "T5ForConditionalGeneration"},
    rules=names.T5,
    fields=(
        Field("vocab_size", "vocab_size", 32128),
        Field("dim", "d_model", 512),
        Field("head_width", "d_kv", 64),
        Field("ffn_dim", "d_ff", 2048),
        Field("num_encoder_layers", "num_layers", 6),
        Field("num_layers", "num_decoder_layers", lambda values: values.get("num_layers", 6)),
        Field("num_heads", "num_heads", 8),
        Field("max_length", "n_positions", 512),
        Field("tie_embeddings", "tie_word_embeddings", True),
        Field("scale_output", "scale_decoder_outputs", lambda values: values.get("tie_word_embeddings") is not False),
        Field("relative_buckets", "relative_attention_num_buckets", 32),
        Field("relative_max_distance", "relative_attention_max_distance", 128),
        Field("norm_eps", "layer_norm_epsilon", 1e-6),
        Field(
            "activation",
            "feed_forward_proj",
            "relu",
            words={**PLAIN, "swiglu": ("gated-silu",), "geglu": ("gated-gelu",)},
        ),
        Field("dropout", "dropout_rate", 0.1),
    ),
    same={
        "positions": "t5",
        "norm": "rmsnorm",
        "post_norm": False,
        "bias": False,
        "scale_embeddings": False,
        "scale_attention": False,
        **_MULTI_HEAD,
    },
    prefix="",
    always_ties=True,
    copies={"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"},
)

KINDS = (LLAMA, EUROBERT, QWEN3, MIXTRAL, GPT2, BLOOM, BERT, MARIAN, BART, T5)
BY_TYPE = {kind.model_type: kind for kind in KINDS}
