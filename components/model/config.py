"""What a model is, and how it is asked to write: frozen dataclasses without torch, light enough for any step's config.

`family` names the architecture. The fields are those all families share; a new family adds its block in
`transformer.py` and its name map in `huggingface.py`, and reads the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, require_choice

FAMILIES = ("llama",)


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a Transformer.

    Attributes:
        family: Architecture; "llama" is RMSNorm before each sub-layer, rotary positions, grouped queries, SwiGLU.
        vocab_size: Rows of the embedding; 0 takes the tokenizer's.
        dim: Width of the residual stream.
        num_layers: Blocks.
        num_heads: Query heads; each is dim / num_heads wide.
        num_kv_heads: Key and value heads; each serves num_heads / num_kv_heads query heads.
        ffn_dim: Width of the feed-forward gate.
        max_length: Longest sequence in tokens, prompt and reply together.
        rope_theta: Base of the rotary wavelengths.
        norm_eps: Added to the mean square before its root.
        tie_embeddings: Whether the output projection is the embedding table; saves vocab_size * dim parameters, which
            at tiny sizes would be most of the model.
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

    def __post_init__(self) -> None:
        require_choice("model.family", self.family, FAMILIES)
        for name in ("dim", "num_layers", "num_heads", "num_kv_heads", "ffn_dim", "max_length"):
            value = getattr(self, name)
            require(value >= 1, f"model.{name}", value, "must be at least 1", f"model.{name}=1 or more")
        require(self.vocab_size >= 0, "model.vocab_size", self.vocab_size, "must not be negative", "model.vocab_size=0")
        require(
            self.dim % (2 * self.num_heads) == 0,
            "model.dim",
            self.dim,
            f"must be an even multiple of model.num_heads={self.num_heads} (rotary positions pair the two half heads)",
            f"model.dim={2 * self.num_heads * max(1, self.dim // (2 * self.num_heads))}",
        )
        require(
            self.num_heads % self.num_kv_heads == 0,
            "model.num_kv_heads",
            self.num_kv_heads,
            f"must divide model.num_heads={self.num_heads}",
            f"model.num_kv_heads={self.num_heads}",
        )
        require(self.rope_theta > 0, "model.rope_theta", self.rope_theta, "must be positive", "model.rope_theta=10000")
        require(self.norm_eps > 0, "model.norm_eps", self.norm_eps, "must be positive", "model.norm_eps=1e-5")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.num_heads


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn.

    Attributes:
        temperature: Divides the logits; 0 always takes the likeliest token.
        top_k: Draw among the k likeliest tokens; 0 keeps all.
        top_p: Draw among the likeliest tokens whose probabilities reach this sum; 1 keeps all.
        max_new_tokens: Tokens after which a row is cut.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        require(
            self.temperature >= 0, "sampling.temperature", self.temperature, "must not be negative", "temperature=0"
        )
        require(self.top_k >= 0, "sampling.top_k", self.top_k, "must not be negative", "top_k=0 to keep all tokens")
        require(0 < self.top_p <= 1, "sampling.top_p", self.top_p, "must lie in (0, 1]", "top_p=1 to keep all tokens")
        require(
            self.max_new_tokens >= 1, "sampling.max_new_tokens", self.max_new_tokens, "must be at least 1", "it to 64"
        )


def num_parameters(config: ModelConfig) -> int:
    """Trainable parameters of a model of this shape, a tied table counted once."""
    tables = config.vocab_size * config.dim * (1 if config.tie_embeddings else 2)
    norms = (2 * config.num_layers + 1) * config.dim
    return tables + norms + num_block_weights(config)


def num_block_weights(config: ModelConfig) -> int:
    """Entries of all weight matrices inside the blocks: those that every token is multiplied by."""
    attention = 2 * config.dim * (config.num_heads + config.num_kv_heads) * config.head_dim
    return config.num_layers * (attention + 3 * config.dim * config.ffn_dim)
