"""What each class calls its weights: tables of rules, see `forms`. Nothing here computes.

Facts of the classes that are easy to get wrong: GPT-2's matrices are transposed; BLOOM's fused matrix goes head by
head; BART's positions start at row 2; T5 keeps the buckets of all layers in its first; Mixtral's experts are three
matrices each (w1 the gate, w3 up, w2 down); BERT's and T5's last norm of a block has a number or a place, not a name.
"""

from __future__ import annotations

from components.model.huggingface.forms import (
    AFTER_TWO,
    BY_HEAD,
    EXPERTS_DOWN,
    EXPERTS_GATE_UP,
    GATE_UP,
    KEY_VALUE,
    ONE_ROW,
    QKV,
    SAME,
    TRANSPOSED,
    Form,
    Rule,
)

Row = tuple[str, str, Form]


def _table(ours: str, theirs: str, *rows: Row) -> tuple[Rule, ...]:
    """Rules whose names begin alike; a row with "a, b" pairs one of ours with two of theirs."""
    return tuple(
        Rule(ours + own, tuple(theirs + name for name in names.split(", ")), form) for own, names, form in rows
    )


BLOCK, LAYER = "backbone.blocks.{n}.", "model.layers.{n}."

_LLAMA_ATTENTION = (
    *_table(
        "",
        "",
        ("backbone.embed", "model.embed_tokens", SAME),
        ("backbone.norm", "model.norm", SAME),
        ("lm_head", "lm_head", SAME),
        ("score", "score", SAME),
    ),
    *_table(
        BLOCK,
        LAYER,
        ("attention_norm", "input_layernorm", SAME),
        ("attention.qkv", "self_attn.q_proj, self_attn.k_proj, self_attn.v_proj", QKV),
        ("attention.out", "self_attn.o_proj", SAME),
        ("attention.query_norm", "self_attn.q_norm", SAME),
        ("attention.key_norm", "self_attn.k_norm", SAME),
        ("ffn_norm", "post_attention_layernorm", SAME),
    ),
)

LLAMA = (
    *_LLAMA_ATTENTION,
    *_table(
        BLOCK,
        LAYER,
        ("ffn.gate_up", "mlp.gate_proj, mlp.up_proj", GATE_UP),
        ("ffn.down", "mlp.down_proj", SAME),
    ),
)

EUROBERT = (*LLAMA, *_table("", "", ("pooler", "dense", SAME), ("classifier", "classifier", SAME)))

_EXPERT = LAYER + "block_sparse_moe.experts.{e}."
MIXTRAL = (
    *_LLAMA_ATTENTION,
    Rule(BLOCK + "ffn.router", (LAYER + "block_sparse_moe.gate",), SAME),
    Rule(BLOCK + "ffn.gate_up", (_EXPERT + "w1.weight", _EXPERT + "w3.weight"), EXPERTS_GATE_UP, whole=True),
    Rule(BLOCK + "ffn.down", (_EXPERT + "w2.weight",), EXPERTS_DOWN, whole=True),
)

GPT2 = (
    *_table(
        "",
        "",
        ("backbone.embed", "transformer.wte", SAME),
        ("backbone.positions", "transformer.wpe", SAME),
        ("backbone.norm", "transformer.ln_f", SAME),
        ("lm_head", "lm_head", SAME),
        ("score", "score", SAME),
    ),
    *_table(
        BLOCK,
        "transformer.h.{n}.",
        ("attention_norm", "ln_1", SAME),
        ("attention.qkv", "attn.c_attn", TRANSPOSED),
        ("attention.out", "attn.c_proj", TRANSPOSED),
        ("ffn_norm", "ln_2", SAME),
        ("ffn.up", "mlp.c_fc", TRANSPOSED),
        ("ffn.down", "mlp.c_proj", TRANSPOSED),
    ),
)

BLOOM = (
    *_table(
        "",
        "",
        ("backbone.embed", "transformer.word_embeddings", SAME),
        ("backbone.embed_norm", "transformer.word_embeddings_layernorm", SAME),
        ("backbone.norm", "transformer.ln_f", SAME),
        ("lm_head", "lm_head", SAME),
        ("score", "score", SAME),
    ),
    *_table(
        BLOCK,
        "transformer.h.{n}.",
        ("attention_norm", "input_layernorm", SAME),
        ("attention.qkv", "self_attention.query_key_value", BY_HEAD),
        ("attention.out", "self_attention.dense", SAME),
        ("ffn_norm", "post_attention_layernorm", SAME),
        ("ffn.up", "mlp.dense_h_to_4h", SAME),
        ("ffn.down", "mlp.dense_4h_to_h", SAME),
    ),
)

BERT = (
    *_table(
        "backbone.",
        "bert.embeddings.",
        ("embed", "word_embeddings", SAME),
        ("positions", "position_embeddings", SAME),
        ("token_types", "token_type_embeddings", SAME),
        ("embed_norm", "LayerNorm", SAME),
    ),
    *_table(
        BLOCK,
        "bert.encoder.layer.{n}.",
        ("attention.qkv", "attention.self.query, attention.self.key, attention.self.value", QKV),
        ("attention.out", "attention.output.dense", SAME),
        ("attention_norm", "attention.output.LayerNorm", SAME),
        ("ffn.up", "intermediate.dense", SAME),
        ("ffn.down", "output.dense", SAME),
        ("ffn_norm", "output.LayerNorm", SAME),
    ),
    *_table(
        "",
        "",
        ("mlm.dense", "cls.predictions.transform.dense", SAME),
        ("mlm.norm", "cls.predictions.transform.LayerNorm", SAME),
        ("lm_head", "cls.predictions.decoder", SAME),
        ("pooler", "bert.pooler.dense", SAME),
        ("classifier", "classifier", SAME),
    ),
    Rule("mlm.bias", ("cls.predictions.bias",), SAME, whole=True),
)


def _bart_stack(side: str) -> tuple[Rule, ...]:
    """One stack of a Marian or BART; the rows of the cross attention are read in the decoder alone."""
    own, other = f"{side}.", f"model.{side}."
    return _table(
        own + "blocks.{n}.",
        other + "layers.{n}.",
        ("attention_norm", "self_attn_layer_norm", SAME),
        ("attention.qkv", "self_attn.q_proj, self_attn.k_proj, self_attn.v_proj", QKV),
        ("attention.out", "self_attn.out_proj", SAME),
        ("cross_norm", "encoder_attn_layer_norm", SAME),
        ("cross.query", "encoder_attn.q_proj", SAME),
        ("cross.key_value", "encoder_attn.k_proj, encoder_attn.v_proj", KEY_VALUE),
        ("cross.out", "encoder_attn.out_proj", SAME),
        ("ffn_norm", "final_layer_norm", SAME),
        ("ffn.up", "fc1", SAME),
        ("ffn.down", "fc2", SAME),
    )


MARIAN = (
    *_table("", "", ("encoder.embed", "model.shared", SAME), ("lm_head", "lm_head", SAME)),
    Rule("logits_bias", ("final_logits_bias",), ONE_ROW, whole=True),
    *_bart_stack("encoder"),
    *_bart_stack("decoder"),
)

BART = (
    *MARIAN,
    *_table(
        "",
        "model.",
        ("encoder.positions", "encoder.embed_positions", AFTER_TWO),
        ("encoder.embed_norm", "encoder.layernorm_embedding", SAME),
        ("decoder.positions", "decoder.embed_positions", AFTER_TWO),
        ("decoder.embed_norm", "decoder.layernorm_embedding", SAME),
    ),
)


def _t5_stack(side: str, ffn: int) -> tuple[Rule, ...]:
    """One stack of a T5; `ffn` is the place of the feed-forward layer among a block's layers."""
    return (
        *_table(
            f"{side}.",
            f"{side}.",
            ("norm", "final_layer_norm", SAME),
            ("relative", "block.0.layer.0.SelfAttention.relative_attention_bias", SAME),
        ),
        *_table(
            f"{side}.blocks.{{n}}.",
            f"{side}.block.{{n}}.layer.",
            ("attention_norm", "0.layer_norm", SAME),
            ("attention.qkv", "0.SelfAttention.q, 0.SelfAttention.k, 0.SelfAttention.v", QKV),
            ("attention.out", "0.SelfAttention.o", SAME),
            ("cross_norm", "1.layer_norm", SAME),
            ("cross.query", "1.EncDecAttention.q", SAME),
            ("cross.key_value", "1.EncDecAttention.k, 1.EncDecAttention.v", KEY_VALUE),
            ("cross.out", "1.EncDecAttention.o", SAME),
            ("ffn_norm", f"{ffn}.layer_norm", SAME),
            ("ffn.up", f"{ffn}.DenseReluDense.wi", SAME),
            ("ffn.gate_up", f"{ffn}.DenseReluDense.wi_0, {ffn}.DenseReluDense.wi_1", GATE_UP),
            ("ffn.down", f"{ffn}.DenseReluDense.wo", SAME),
        ),
    )


T5 = (
    *_table("", "", ("encoder.embed", "shared", SAME), ("lm_head", "lm_head", SAME)),
    *_t5_stack("encoder", ffn=1),
    *_t5_stack("decoder", ffn=2),
)
