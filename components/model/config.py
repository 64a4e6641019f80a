"""What a model is, and how it is asked to write: frozen dataclasses without torch, light enough for any step's config.

`family` names one of five architectures and thereby the value of every field that is left unset (`None`):
`ModelConfig(family="gpt2")` is a GPT-2, `ModelConfig(family="gpt2", positions="alibi")` is one with ALiBi. A family
is a set of defaults, never a branch in the model's code. `resolved` fills the unset fields in; the code of the model
sees resolved configs only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from components.configuring import added, require, require_choice
from components.errors import StepError

FAMILIES = ("llama", "gpt2", "bert", "eurobert", "encoder-decoder")
ENCODERS = ("bert", "eurobert")
POSITIONS = ("rope", "learned", "sinusoidal", "t5", "alibi", "none")
ROPE_SCALINGS = ("none", "llama3", "yarn")
NORMS = ("rmsnorm", "layernorm")
ACTIVATIONS = ("swiglu", "geglu", "gelu", "gelu-tanh", "relu", "relu2", "silu")
GATED = ("swiglu", "geglu")

_LLAMA: dict[str, object] = {
    "positions": "rope",
    "norm": "rmsnorm",
    "post_norm": False,
    "activation": "swiglu",
    "bias": False,
    "embed_norm": False,
    "scale_embeddings": False,
    "scale_attention": True,
}
_DEFAULTS: dict[str, dict[str, object]] = {
    "llama": _LLAMA,
    "eurobert": _LLAMA,
    "gpt2": {
        "positions": "learned",
        "norm": "layernorm",
        "post_norm": False,
        "activation": "gelu-tanh",
        "bias": True,
        "embed_norm": False,
        "scale_embeddings": False,
        "scale_attention": True,
    },
    "bert": {
        "positions": "learned",
        "norm": "layernorm",
        "post_norm": True,
        "activation": "gelu",
        "bias": True,
        "embed_norm": True,
        "scale_embeddings": False,
        "scale_attention": True,
    },
    "encoder-decoder": {
        "positions": "sinusoidal",
        "norm": "layernorm",
        "post_norm": True,
        "activation": "relu",
        "bias": True,
        "embed_norm": False,
        "scale_embeddings": True,
        "scale_attention": True,
    },
}


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a Transformer.

    Attributes:
        family: "llama" and "gpt2" are decoders that predict the next token; "bert" is an encoder that sees both
            directions and fills gaps, "eurobert" (2503.05500) one of the parts of a llama; "encoder-decoder" reads a
            source and writes a target. It sets the defaults of the fields below that are null.
        vocab_size: Rows of the embedding; 0 takes the tokenizer's.
        dim: Width of the residual stream.
        num_layers: Blocks; of an encoder-decoder those of the decoder.
        num_heads: Query heads.
        num_kv_heads: Key and value heads; each serves num_heads / num_kv_heads query heads. num_heads of them is
            multi-head attention, fewer is grouped-query attention, one is multi-query attention.
        ffn_dim: Width of the feed-forward layer (of its gate, where it has one).
        max_length: Longest sequence in tokens, prompt and reply together.
        rope_theta: Base of the rotary wavelengths.
        norm_eps: Added to the mean square (or variance) before its root.
        tie_embeddings: Whether the output projection is the embedding table; saves vocab_size * dim parameters, which
            at tiny sizes would be most of the model.
        positions: "rope" (2104.09864), "learned", "sinusoidal" (1706.03762), "t5" (relative buckets, 1910.10683),
            "alibi" (2108.12409) or "none"; null takes the family's.
        norm: "rmsnorm" or "layernorm"; null takes the family's.
        post_norm: Normalise the sum after each sub-layer (2017's order) and not what goes into it; null takes the
            family's. A post-norm stack has no final norm.
        activation: "swiglu" and "geglu" (of gelu's tanh form) have a gate; "gelu", "gelu-tanh", "relu", "relu2", "silu"
            have none; null takes the family's.
        bias: Whether matrices and layer norms have biases; null takes the family's.
        embed_norm: Normalise the sum of the embeddings; null takes the family's.
        scale_embeddings: Multiply token embeddings by sqrt(dim); null takes the family's.
        scale_attention: Divide attention scores by sqrt(head width) (T5 does not); null takes the family's.
        scale_output: Divide the last hidden states by sqrt(dim) before the output projection, as a T5 whose
            embeddings are tied does.
        logits_bias: Whether an encoder-decoder adds a learned number to each token's logit (Marian, BART).
        head_width: Width of one head; 0 is dim / num_heads.
        qk_norm: RMSNorm over each query and key head before they are rotated (2302.05442).
        rope_scaling: Stretches the rotary wavelengths past the length of pretraining: "none", "llama3", "yarn"
            (2309.00071).
        rope_factor: How many times the original length is reached.
        rope_original_length: Length of pretraining before scaling; 0 is max_length / rope_factor.
        rope_low_freq: "llama3": wavelengths longer than original length / this are stretched whole.
        rope_high_freq: "llama3": wavelengths shorter than original length / this are left alone.
        rope_beta_fast: "yarn": dimensions that turn more often than this over the original length are left alone.
        rope_beta_slow: "yarn": dimensions that turn less often than this are stretched whole.
        rope_attention_factor: "yarn": multiplies queries and keys; 0 is 0.1 ln(rope_factor) + 1.
        relative_buckets: "t5": buckets of distances.
        relative_max_distance: "t5": distance from which on all share the last bucket.
        num_encoder_layers: Blocks of the encoder of an encoder-decoder; 0 is num_layers.
        num_token_types: Rows of BERT's table of sentence numbers; 0 has none.
        num_experts: Feed-forward networks per block among which a router chooses (mixture of experts); 0 has one, and
            no router.
        experts_per_token: How many of them each token visits.
        router_loss: Weight of the load-balancing loss (2101.03961) beside the cross-entropy, per token.
        dropout: Share of activations dropped while training: embeddings and each sub-layer's output.
    """

    family: str = "llama"
    vocab_size: int = 0
    dim: int = 192
    num_layers: int = 6
    num_heads: int = 6
    num_kv_heads: int = 2
    ffn_dim: int = 512
    max_length: int = 512
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    positions: str | None = added(None)
    norm: str | None = added(None)
    post_norm: bool | None = added(None)
    activation: str | None = added(None)
    bias: bool | None = added(None)
    embed_norm: bool | None = added(None)
    scale_embeddings: bool | None = added(None)
    scale_attention: bool | None = added(None)
    scale_output: bool = added(False)
    logits_bias: bool = added(False)
    head_width: int = added(0)
    qk_norm: bool = added(False)
    rope_scaling: str = added("none")
    rope_factor: float = added(1.0)
    rope_original_length: int = added(0)
    rope_low_freq: float = added(1.0)
    rope_high_freq: float = added(4.0)
    rope_beta_fast: float = added(32.0)
    rope_beta_slow: float = added(1.0)
    rope_attention_factor: float = added(0.0)
    relative_buckets: int = added(32)
    relative_max_distance: int = added(128)
    num_encoder_layers: int = added(0)
    num_token_types: int = added(0)
    num_experts: int = added(0)
    experts_per_token: int = added(2)
    router_loss: float = added(0.01)
    dropout: float = added(0.0)

    def __post_init__(self) -> None:
        self._check_choices()
        for name in ("dim", "num_layers", "num_heads", "num_kv_heads", "ffn_dim", "max_length"):
            value = getattr(self, name)
            require(value >= 1, f"model.{name}", value, "must be at least 1", f"model.{name}=1 or more")
        for name in ("vocab_size", "head_width", "rope_original_length", "num_encoder_layers", "num_token_types"):
            value = getattr(self, name)
            require(value >= 0, f"model.{name}", value, "must not be negative", f"model.{name}=0")
        self._check_heads()
        for name, fix in (("rope_theta", "10000"), ("norm_eps", "1e-5")):
            value = getattr(self, name)
            require(value > 0, f"model.{name}", value, "must be positive", f"model.{name}={fix}")
        require(
            self.rope_factor >= 1, "model.rope_factor", self.rope_factor, "must be at least 1", "model.rope_factor=1"
        )
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "must lie in [0, 1)", "model.dropout=0.1")
        self._check_positions()
        self._check_experts()

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.head_width or self.dim // self.num_heads

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a gate."""
        return resolved(self).activation in GATED

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it; an encoder-decoder's decoder does."""
        return self.family not in ENCODERS

    @property
    def encoder_layers(self) -> int:
        """Blocks of an encoder-decoder's encoder."""
        return self.num_encoder_layers or self.num_layers

    def _check_choices(self) -> None:
        require_choice("model.family", self.family, FAMILIES)
        require_choice("model.rope_scaling", self.rope_scaling, ROPE_SCALINGS)
        for name, choices in (("positions", POSITIONS), ("norm", NORMS), ("activation", ACTIVATIONS)):
            value = getattr(self, name)
            if value is not None:
                require_choice(f"model.{name}", value, choices)

    def _check_heads(self) -> None:
        rotary = resolved(self).positions == "rope"
        step = (2 if rotary else 1) * self.num_heads
        even, why = (
            ("an even multiple", " (rotary positions pair the two half heads)") if rotary else ("a multiple", "")
        )
        require(
            self.head_width > 0 or self.dim % step == 0,
            "model.dim",
            self.dim,
            f"must be {even} of model.num_heads={self.num_heads}{why}",
            f"model.dim={step * max(1, self.dim // step)}",
        )
        require(
            not rotary or self.head_width % 2 == 0,
            "model.head_width",
            self.head_width,
            f"must be even{why}",
            f"model.head_width={self.head_width + 1}",
        )
        require(
            self.num_heads % self.num_kv_heads == 0,
            "model.num_kv_heads",
            self.num_kv_heads,
            f"must divide model.num_heads={self.num_heads}",
            f"model.num_kv_heads={self.num_heads}",
        )

    def _check_positions(self) -> None:
        low, high = self.rope_low_freq, self.rope_high_freq
        require(
            0 < low < high,
            "model.rope_high_freq",
            high,
            f"must be above model.rope_low_freq={low}",
            "model.rope_high_freq=4",
        )
        slow, fast = self.rope_beta_slow, self.rope_beta_fast
        require(
            0 < slow < fast,
            "model.rope_beta_fast",
            fast,
            f"must be above model.rope_beta_slow={slow}",
            "model.rope_beta_fast=32",
        )
        value = self.rope_attention_factor
        require(
            value >= 0, "model.rope_attention_factor", value, "must not be negative", "model.rope_attention_factor=0"
        )
        buckets, distance = self.relative_buckets, self.relative_max_distance
        require(
            buckets >= 4 and buckets % 2 == 0,
            "model.relative_buckets",
            buckets,
            "must be even and at least 4",
            "model.relative_buckets=32",
        )
        require(
            distance > buckets // 2,
            "model.relative_max_distance",
            distance,
            f"must be above half of model.relative_buckets={buckets}",
            f"model.relative_max_distance={4 * buckets}",
        )

    def _check_experts(self) -> None:
        require(
            self.num_experts != 1 and self.num_experts >= 0,
            "model.num_experts",
            self.num_experts,
            "must be 0 (one feed-forward network, no router) or at least 2",
            "model.num_experts=0",
        )
        require(
            self.num_experts == 0 or 1 <= self.experts_per_token <= self.num_experts,
            "model.experts_per_token",
            self.experts_per_token,
            f"must lie between 1 and model.num_experts={self.num_experts}",
            "model.experts_per_token=2",
        )
        value = self.router_loss
        require(value >= 0, "model.router_loss", value, "must not be negative", "model.router_loss=0.01")


def resolved(config: ModelConfig) -> ModelConfig:
    """The config with every null field set to what its family says. Idempotent."""
    unset = {name: value for name, value in _DEFAULTS[config.family].items() if getattr(config, name) is None}
    return dataclasses.replace(config, **unset) if unset else config  # type: ignore[arg-type]


def with_vocabulary(config: ModelConfig, vocab_size: int, key: str) -> ModelConfig:
    """The config with its vocabulary filled in, where it leaves that to the tokenizer.

    Args:
        config: The shape.
        vocab_size: Tokens of the tokenizer.
        key: Where the shape stands, such as "pretrain.model".

    Raises:
        StepError: If the config asks for fewer rows than the tokenizer has tokens.
    """
    if config.vocab_size == 0:
        return dataclasses.replace(config, vocab_size=vocab_size)
    if config.vocab_size < vocab_size:
        raise StepError(
            f"The tokenizer has {vocab_size} tokens, the model has room for {config.vocab_size}.",
            where=f"{key}.vocab_size={config.vocab_size}",
            fix=f"set {key}.vocab_size=0 to take the tokenizer's",
        )
    return config


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn.

    Attributes:
        temperature: Divides the logits; 0 always takes the likeliest token.
        top_k: Draw among the k likeliest tokens; 0 keeps all.
        top_p: Draw among the likeliest tokens whose probabilities reach this sum; 1 keeps all.
        max_new_tokens: Tokens after which a row is cut.
        min_p: Draw among tokens at least this times as likely as the likeliest; 0 keeps all.
        num_beams: Sequences kept at each step of a beam search; 1 is no search. More need temperature=0.
        length_penalty: A beam's score is its log-probability divided by its length to this power; 0 prefers short ones.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 64
    min_p: float = added(0.0)
    num_beams: int = added(1)
    length_penalty: float = added(1.0)

    def __post_init__(self) -> None:
        require(
            self.temperature >= 0, "sampling.temperature", self.temperature, "must not be negative", "temperature=0"
        )
        require(self.top_k >= 0, "sampling.top_k", self.top_k, "must not be negative", "top_k=0 to keep all tokens")
        require(0 < self.top_p <= 1, "sampling.top_p", self.top_p, "must lie in (0, 1]", "top_p=1 to keep all tokens")
        require(0 <= self.min_p < 1, "sampling.min_p", self.min_p, "must lie in [0, 1)", "min_p=0 to keep all tokens")
        require(self.num_beams >= 1, "sampling.num_beams", self.num_beams, "must be at least 1", "num_beams=1")
        require(
            self.num_beams == 1 or self.temperature == 0,
            "sampling.num_beams",
            self.num_beams,
            f"draws nothing: it needs sampling.temperature=0, not {self.temperature:g}",
            "temperature=0",
        )
        require(
            self.max_new_tokens >= 1, "sampling.max_new_tokens", self.max_new_tokens, "must be at least 1", "it to 64"
        )
