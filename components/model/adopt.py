"""Published weights made ready for our steps: `python -m components.model.adopt SOURCE FOLDER`.

Our steps place seven special tokens themselves, at ids 0 to 6 (`components.tokenizer.special`); a published vocabulary
has others elsewhere. Adopting puts the seven in front and moves every id of the old vocabulary up by seven, in the
tokenizer and in the rows of embedding and output alike. So every text has the ids it had, plus seven, and the logits it
had. The new rows start as the model's own beginning, end and padding where its config names them, else as the mean of
all rows: in the midst of the others, where training moves them from.

What is read is a byte-level BPE tokenizer.json, as nearly all decoders have; anything else is refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from components.errors import HeadwaterError, StepError
from components.model.export import require_new
from components.model.external import ExternalConfig, ExternalModel
from components.model.language import AnyConfig, LanguageModel, load_language_model, save_language_model
from components.publish import publish_json
from components.tokenizer.special import BOS, EOS, PAD, SPECIAL_TOKENS

SHIFT = len(SPECIAL_TOKENS)
NAMED = {PAD: "pad_token_id", BOS: "bos_token_id", EOS: "eos_token_id"}


def adopt(source: Path, folder: Path) -> None:
    """Writes a model folder whose vocabulary begins with our special tokens.

    Args:
        source: A folder of a causal language model that transformers loads.
        folder: Where to; must not exist or be empty.

    Raises:
        ConfigError: If there is something at `folder`.
        StepError: If the source is no such model, or its tokenizer is no byte-level BPE or has our tokens already.
    """
    require_new(folder)
    tokenizer = shifted_tokenizer(source / "tokenizer.json")
    model = load_language_model(source)
    ids = _named_ids(source)
    wide = {name for name, parameter in model.named_parameters() if _by_token(model, name, parameter)}
    weights = {
        name: _with_new_rows(parameter.detach(), ids) if name in wide else parameter.detach()
        for name, parameter in model.named_parameters()
    }
    folder.mkdir(parents=True, exist_ok=True)
    publish_json(folder / "tokenizer.json", tokenizer)
    names = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **{key: SPECIAL_TOKENS[n] for key, n in names.items()}}
    publish_json(folder / "tokenizer_config.json", settings)
    save_language_model(_wider(model.config), weights, folder, folder)


def shifted_tokenizer(path: Path) -> dict[str, object]:
    """The content of a tokenizer.json with every id moved up by seven and our special tokens in front.

    Raises:
        StepError: If it is missing, no byte-level BPE, or has one of our tokens.
    """
    if not path.is_file():
        raise _unfit(path, "does not exist")
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    model = cast(dict[str, object], content["model"])
    pieces = json.dumps(content.get("pre_tokenizer"))
    if model.get("type") != "BPE" or '"ByteLevel"' not in pieces:
        raise _unfit(path, "is no byte-level BPE")
    added = cast(list[dict[str, object]], content.get("added_tokens") or [])
    old = {str(token["content"]): int(str(token["id"])) for token in added}
    vocabulary = {**cast(dict[str, int], model["vocab"]), **old}
    if taken := sorted(set(SPECIAL_TOKENS) & set(vocabulary)):
        raise _unfit(path, f"has the token {taken[0]} already")
    ours = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    shifted = [{**token, "id": int(str(token["id"])) + SHIFT} for token in added]
    return {
        **content,
        "model": {**model, "vocab": {**ours, **{token: number + SHIFT for token, number in vocabulary.items()}}},
        "added_tokens": [{"id": number, "content": token, **plain} for token, number in ours.items()] + shifted,
        "post_processor": None,  # it would place the old tokens: ours are placed by our own code
    }


def _named_ids(source: Path) -> dict[int, int]:
    """Of our special tokens those that the model has under another id, which its config tells."""
    values = json.loads((source / "config.json").read_text(encoding="utf-8"))
    found = {ours: values.get(name) for ours, name in NAMED.items()}
    firsts = {ours: number[0] if isinstance(number, list) else number for ours, number in found.items()}
    return {ours: int(number) for ours, number in firsts.items() if number is not None}


def _by_token(model: LanguageModel, name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter has a row per token: embedding, output projection, and its bias."""
    if isinstance(model, ExternalModel):
        tables = [model.inner.get_input_embeddings(), model.inner.get_output_embeddings()]
        return any(parameter is other for table in tables if table is not None for other in table.parameters())
    return name in ("backbone.embed.weight", "lm_head.weight")


def _with_new_rows(tensor: Tensor, ids: Mapping[int, int]) -> Tensor:
    mean = tensor.mean(0, keepdim=True)
    rows = [tensor[ids[token]][None] if ids.get(token, len(tensor)) < len(tensor) else mean for token in range(SHIFT)]
    return torch.cat([*rows, tensor])


def _wider(config: AnyConfig) -> AnyConfig:
    wider = dataclasses.replace(config, vocab_size=config.vocab_size + SHIFT)
    if not isinstance(wider, ExternalConfig):
        return wider
    values = json.loads(wider.values)
    text = values.get("text_config", values)
    text["vocab_size"] = wider.vocab_size
    return dataclasses.replace(wider, values=json.dumps(values))


def _unfit(path: Path, why: str) -> StepError:
    return StepError(
        f"The tokenizer {path} {why}.",
        where=str(path),
        fix="give a model folder with a byte-level BPE tokenizer.json that headwater has not adopted yet",
    )


def main(arguments: list[str] | None = None) -> int:
    """Adopts the folder named on the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m components.model.adopt", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("source", type=Path, help="folder of a causal language model")
    parser.add_argument("folder", type=Path, help="where to; must be new or empty")
    options = parser.parse_args(arguments)
    try:
        adopt(options.source, options.folder)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.folder} is ready for pretrain.init and as a base of sft")
    return 0


if __name__ == "__main__":
    sys.exit(main())
