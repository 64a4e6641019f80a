"""What can be known to be wrong with a pretraining before its ranks start: each sentence here saves minutes.

Looked at are the vocabulary (of model, tokenizer and tokens), the rows (there are some, and they belong to the tokens),
and the device (its memory, its precision). What only a rank can see, it says itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context
from components.errors import StepError
from components.model.config import ModelConfig, with_vocabulary
from components.pretrain.config import PretrainConfig

if TYPE_CHECKING:
    from components.model.language import AnyConfig


def check_start(
    ctx: Context, config: PretrainConfig, tokens: Path, tokenizer: Path, rows: Path | None, start: Path | None = None
) -> None:
    """Refuses what cannot come to a good end. The memory of a model type that is not ours is not estimated.

    Raises:
        StepError: If the vocabularies do not match, the tokens hold no row, or ranks cannot share this model.
        MachineError: If the training does not fit its device, or the device lacks the precision asked for.
    """
    from components.shards.loader import Loader, TokenRows
    from components.shards.schedule import Schedule
    from components.tokenizer.load import TextTokenizer
    from components.training.checks import check_engine
    from components.training.room import check_room, device_of_ranks

    check_tokenizer(tokens, tokenizer)
    text = TextTokenizer.from_folder(tokenizer)
    shape: AnyConfig
    if start is None:
        shape = with_vocabulary(config.model, text.vocab_size, "pretrain.model")
    else:
        from components.pretrain.start import read_shape  # with torch, which the others need not import

        shape = read_shape(start, config, tokenizer)
    loader = Loader.open(tokens, Schedule(0, config.training.batch_size, config.length, config.mixture), rows)
    if config.training.privacy.on:
        from components.pretrain.private import budget_of

        budget_of(config, loader.num_rows)
    TokenRows.open(tokens / "val", config.length, config.eval_documents)
    if isinstance(shape, ModelConfig):
        check_engine(shape, config.training, config.length, ctx.device())
        check_room(shape, config.training, config.length, device_of_ranks(ctx.device()), "pretrain.training")


def check_tokenizer(tokens: Path, tokenizer: Path) -> None:
    """Refuses tokens that another tokenizer made: their numbers would mean other text.

    Raises:
        StepError: If they differ.
    """
    from components.publish import read_json, sha256_of
    from components.shards.verify import META
    from components.tokenizer.load import FILE_NAME

    made_by, given = read_json(tokens / META).get("tokenizer"), sha256_of(tokenizer / FILE_NAME)
    if made_by != given:
        raise StepError(
            f"The tokens were made with another tokenizer ({str(made_by)[:12]}) than the one given ({given[:12]}).",
            where=f"{tokens / META}, {tokenizer / FILE_NAME}",
            fix="make the tokens again with this tokenizer, or give the tokenizer they were made with",
        )
