"""Model folders as Hugging Face writes them, both ways: what training publishes, `transformers` and vLLM load as it is.

    config.json  model.safetensors  generation_config.json  and the tokenizer's files

    folder    save_model, load_transformer, load_encoder_decoder, load_scalar, load_classifier
    kinds     one table per class: what its settings are called, what all its models have in common
    names     one table per class: what its weights are called
    configs   our config to config.json and back; which class can express a config
    forms     our weights to theirs and back: fused and split, transposed, stacked
    weights   safetensors, one file or shards

What stands on the backbone decides the class on disk: a language model's, or a sequence classifier's with one label for
a scalar model. A decoder's classifier has the same names for its backbone, so a reward model's folder loads as a
language model too. Weights are fp32 when written unless asked for otherwise; fp16 and bf16 ones, single file or
sharded, are read. Neither direction imports `transformers`: tests do, as the judge. A model type that is not here loads
through transformers itself, see `components.model.external`.
"""

from components.model.huggingface.configs import UnlikeOursError
from components.model.huggingface.folder import (
    TOKENIZER_FILES,
    check_vocabulary,
    copy_tokenizer,
    from_hugging_face,
    hugging_face_config,
    load_classifier,
    load_encoder_decoder,
    load_scalar,
    load_transformer,
    name_labels,
    read_config,
    save_model,
    to_hugging_face,
)

__all__ = [
    "TOKENIZER_FILES",
    "UnlikeOursError",
    "check_vocabulary",
    "copy_tokenizer",
    "from_hugging_face",
    "hugging_face_config",
    "load_classifier",
    "load_encoder_decoder",
    "load_scalar",
    "load_transformer",
    "name_labels",
    "read_config",
    "save_model",
    "to_hugging_face",
]
