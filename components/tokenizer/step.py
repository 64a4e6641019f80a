"""The tokenizer step: trains a tokenizer of one of five kinds on the corpus, or takes a given one after checking it.

The artifact is a Hugging Face tokenizer folder that `transformers.AutoTokenizer` loads: tokenizer.json as the library
writes it, and tokenizer_config.json, written here so that the step need not import `transformers`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.errors import StepError
from components.posttrain.chat_format import CHAT_TEMPLATE
from components.publish import publish_bytes, publish_json
from components.shardwise import map_in_waves, work_folder
from components.tokenizer.config import SMALLEST, TokenizerConfig
from components.tokenizer.special import BOS, EOS, MASK, PAD, SPECIAL_TOKENS, special_tokens

if TYPE_CHECKING:
    from components.tokenizer.load import TextTokenizer

VERSION = 3

_MEASURED_BYTES = 2_000_000  # of the documents of smallest id, for bytes_per_token: a second of encoding
_PROBE = (
    "".join(map(chr, range(256)))
    + " it's 3.14\t e\u0301 \u4f60\u597d\uff0c\u4e16\u754c\u3002 \U0001f600 <|end|>\r\n\n  x"
    + "".join(SPECIAL_TOKENS)
    + " ".join(SPECIAL_TOKENS)
)


def tokenizer(ctx: Context, config: TokenizerConfig, documents: Path, given: Path | None = None) -> Metrics:
    """Makes the tokenizer of a run.

    Args:
        ctx: The step's context.
        config: The step's settings.
        documents: Documents artifact, to train on and to measure compression with.
        given: A tokenizer.json or its folder to take instead of training; the same as `config.path`, as an input.

    Returns:
        vocab_size, and bytes_per_token (text bytes per id on 2 MB of the corpus) overall, `_en` and `_zh`.

    Raises:
        StepError: If there are too few documents for the vocabulary, or the given tokenizer does not fit.
    """
    from components.tokenizer.load import FILE_NAME, TextTokenizer

    source = given or (Path(config.path) if config.path else None)
    content = _trained(ctx, config, documents) if source is None else _given(source)
    publish_bytes(ctx.output / FILE_NAME, content)
    loaded = TextTokenizer.from_folder(ctx.output)
    publish_json(ctx.output / "tokenizer_config.json", _hugging_face_config(loaded.num_masks))
    if source is not None:
        _check_masks(loaded, config.masks, source)
        _check_round_trip(loaded, source)
        ctx.progress(1, 1, "tokenizer", f"given, {loaded.vocab_size} ids; tokenizer.vocab_size is not used")
    return {"vocab_size": float(loaded.vocab_size), **_compression(loaded, documents)}


def _trained(ctx: Context, config: TokenizerConfig, documents: Path) -> bytes:
    from components.documents import shard_paths
    from components.tokenizer.counting import fair_sample, iter_table
    from components.tokenizer.train import train

    shards = shard_paths(documents)
    work = work_folder(ctx, VERSION, config, shards)
    counted = _count(ctx, config, documents, shards, work)
    sample = fair_sample(work / "all.arrow", work / "sample.arrow", config.most_bytes)
    ctx.progress(counted["documents"], counted["documents"], "documents", f"learning from {sample.told()}")
    table = iter_table(sample.path)
    trained = train(config.kind, config.segmenter, table, config.vocab_size, config.min_frequency, config.masks)
    shutil.rmtree(work)
    reached = trained.get_vocab_size()
    if reached < config.vocab_size:
        raise StepError(
            f"The corpus is too small for the vocabulary: {counted['documents']} documents of {counted['bytes']} bytes "
            f"have {_MATERIAL[config.kind]} for {reached} ids, {config.vocab_size} were asked for.",
            where=f"tokenizer.vocab_size={config.vocab_size}",
            fix=_smaller_vocabulary(reached, SMALLEST[config.kind][0] + config.masks),
        )
    ctx.progress(counted["documents"], counted["documents"], "documents", f"{reached} ids from {sample.told()}")
    return str(trained.to_str(pretty=True)).encode()


_MATERIAL = {
    "bpe": "repeated pairs",
    "wordpiece": "repeated pairs",
    "unigram": "repeated substrings",
    "word": "repeated words",
    "character": "repeated characters",
}


def _smaller_vocabulary(reached: int, least: int) -> str:
    if reached < least:
        return "crawl more pages, or drop fewer in clean"
    size = max(least, reached // 64 * 64)
    return f"set tokenizer.vocab_size={size}, or crawl more pages"


def _count(ctx: Context, config: TokenizerConfig, documents: Path, shards: list[Path], work: Path) -> Counter[str]:
    """Writes the pieces to train on, counted, to `all.arrow`; returns how many documents and bytes they are from."""
    from components.tokenizer.counting import Share, count_share, limits_of, merge_tables, text_bytes

    sizes = map_in_waves(ctx, text_bytes, shards, 8 * config.shards_at_once, "shards measured")
    if not sum(sizes):
        raise StepError(
            "There are no documents to make a tokenizer for.",
            where=str(documents),
            fix="look at why the steps before dropped everything: summary.json of clean and dedup names the rules",
        )
    shares = [
        Share(shard, work / shard.name, limit, config.kind, config.segmenter)
        for shard, limit in zip(shards, limits_of(sizes, config.train_bytes), strict=True)
        if limit
    ]
    parts = map_in_waves(ctx, count_share, shares, config.shards_at_once, "shards counted")
    merge_tables([share.target for share in shares], work / "all.arrow")
    return Counter({name: sum(int(str(part[name])) for part in parts) for name in ("documents", "bytes")})


def _given(source: Path) -> bytes:
    from components.tokenizer.load import FILE_NAME, TextTokenizer

    path = source / FILE_NAME if source.is_dir() else source
    TextTokenizer.from_file(path)
    return path.read_bytes()


def _check_round_trip(loaded: TextTokenizer, source: Path) -> None:
    """A given tokenizer must be byte-level without normalisation: anything else loses text and miscounts bytes."""
    ids = loaded.encode(_PROBE)
    if loaded.decode(ids) != _PROBE or loaded.bytes_of(ids) != len(_PROBE.encode()):
        raise StepError(
            "The given tokenizer does not give every text back: it is not byte-level, normalises, or takes text for "
            "special tokens.",
            where=f"tokenizer.path={source}",
            fix="give a byte-level tokenizer without a normalizer, or train one with tokenizer.path=null",
        )


def _check_masks(loaded: TextTokenizer, asked: int, source: Path) -> None:
    if loaded.num_masks < asked:
        raise StepError(
            f"The given tokenizer has {loaded.num_masks} masks, {asked} were asked for.",
            where=f"tokenizer.path={source}, tokenizer.masks={asked}",
            fix="give a tokenizer that was trained with them, or train one with tokenizer.path=null",
        )


def _hugging_face_config(num_masks: int) -> dict[str, object]:
    masks = list(special_tokens(num_masks)[MASK:])
    filled: dict[str, object] = {"mask_token": masks[0], "additional_special_tokens": masks[1:]} if masks else {}
    return {
        **filled,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[BOS],
        "eos_token": SPECIAL_TOKENS[EOS],
        "pad_token": SPECIAL_TOKENS[PAD],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _compression(loaded: TextTokenizer, documents: Path) -> Metrics:
    """Bytes of text per id, overall, for English and for Chinese."""
    from components.documents import read_documents

    texts: dict[str, list[str]] = {}
    sizes: Counter[str] = Counter()
    for document in read_documents(documents):
        texts.setdefault(document.lang, []).append(document.text)
        sizes[document.lang] += len(document.text.encode())
        if sizes.total() >= _MEASURED_BYTES:
            break
    tokens = {lang: sum(map(len, loaded.encode_batch(some))) for lang, some in texts.items()}
    ratios = {f"bytes_per_token_{lang}": sizes[lang] / tokens[lang] for lang in ("en", "zh") if tokens.get(lang)}
    return {"bytes_per_token": sizes.total() / max(1, sum(tokens.values())), **ratios}
