"""The tokenizer step: what it writes loads in transformers, and what cannot work is told in a sentence."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from components.context import LocalContext, local_context
from components.documents import Document, Outcome, make_doc_id, shard_of, write_shard
from components.errors import ConfigError, Preempted, StepError
from components.posttrain.chat_format import render, render_prompt
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import SPECIAL_TOKENS
from components.tokenizer.step import tokenizer
from components.tokenizer.train import BYTE_LETTERS, train_bpe

SENTENCES = (
    ("en", "Rivers carry rain from the hills to the sea; number {0} is {0} miles long and isn't deep."),
    ("zh", "第{0}条河从山里流到海里，全长{0}公里。"),
)
WORDS = ["".join(letters) for letters in itertools.product("abcdefghijkl", repeat=3)]
CHAT = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": " hello\n there 你好 "},
    {"role": "assistant", "content": "hi 世界\n\n"},
    {"role": "user", "content": "?"},
    {"role": "assistant", "content": "ok"},
]


def write_documents(folder: Path, count: int, num_shards: int = 3, words: Sequence[str] = ()) -> Path:
    """Sentences, and texts of forty words each."""
    texts = [(SENTENCES[number % 2][0], SENTENCES[number % 2][1].format(number)) for number in range(count)]
    texts += [("en", " ".join(words[start : start + 40])) for start in range(0, len(words), 40)]
    rows = [
        Document(make_doc_id("test", f"u{number}", text.encode()), "test", f"u{number}", lang, "", text)
        for number, (lang, text) in enumerate(texts)
    ]
    for shard in range(num_shards):
        write_shard(folder, shard, Outcome([row for row in rows if shard_of(row.doc_id, num_shards) == shard]))
    return folder


def context(folder: Path) -> LocalContext:
    return local_context("tokenizer", folder)


def test_the_artifact_loads_in_transformers_with_equal_ids(tmp_path: Path):
    from transformers import AutoTokenizer

    ctx = context(tmp_path / "step")
    metrics = tokenizer(ctx, TokenizerConfig(vocab_size=400), documents=write_documents(tmp_path / "documents", 80))
    ours, theirs = TextTokenizer.from_folder(ctx.output), AutoTokenizer.from_pretrained(str(ctx.output))
    text = "Rivers aren't 12 miles 第三条河，很长。"
    assert theirs(text, add_special_tokens=False).input_ids == ours.encode(text)
    assert theirs(text).input_ids == [1, *ours.encode(text)]
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (0, 1, 2)
    assert len(theirs) == ours.vocab_size == metrics["vocab_size"] == 400
    assert metrics["bytes_per_token_en"] > 1.5
    assert metrics["bytes_per_token_zh"] > 1.5


def test_the_chat_template_gives_the_ids_and_the_mask_of_the_chat_format(tmp_path: Path):
    from transformers import AutoTokenizer

    ctx = context(tmp_path / "step")
    tokenizer(ctx, TokenizerConfig(vocab_size=400), documents=write_documents(tmp_path / "documents", 80))
    ours, theirs = TextTokenizer.from_folder(ctx.output), AutoTokenizer.from_pretrained(str(ctx.output))
    rendered = theirs.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    assert (rendered["input_ids"], rendered["assistant_masks"]) == render(ours, CHAT)
    prompt = theirs.apply_chat_template(CHAT[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert prompt == render_prompt(ours, CHAT[:-1])


def test_the_artifact_does_not_depend_on_the_shards_of_the_corpus(tmp_path: Path):
    contents = set()
    for num_shards in (1, 5):
        ctx = context(tmp_path / f"step-{num_shards}")
        documents = write_documents(tmp_path / f"documents-{num_shards}", 60, num_shards)
        tokenizer(ctx, TokenizerConfig(vocab_size=360), documents=documents)
        contents.add((ctx.output / "tokenizer.json").read_bytes())
    assert len(contents) == 1


_RUN = """
import sys
from pathlib import Path
from components.context import local_context
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.special import SPECIAL_TOKENS
from components.tokenizer.step import tokenizer
folder, documents = map(Path, sys.argv[1:])
for kind, size in (("bpe", 400), ("unigram", 350), ("wordpiece", 620)):
    config = TokenizerConfig(size, kind=kind, table_bytes=5000)  # so that pieces are drawn
    tokenizer(local_context("tokenizer", folder / kind), config, documents=documents)
"""


def test_processes_with_other_hash_seeds_and_threads_write_the_same_bytes(tmp_path: Path):
    documents = {
        num_shards: write_documents(tmp_path / f"docs-{num_shards}", 120, num_shards, WORDS) for num_shards in (1, 7)
    }
    contents = []
    for number, (num_shards, threads) in enumerate([(1, "1"), (7, "2"), (7, "4"), (1, "3"), (7, "1")]):
        folder = tmp_path / f"run-{number}"
        variables = os.environ | {
            "RAYON_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "PYTHONHASHSEED": str(number),
        }
        command = [sys.executable, "-c", _RUN, folder, documents[num_shards]]
        subprocess.run(command, check=True, env=variables, cwd=Path(__file__).parents[3])
        made = {path.parts[-3]: path.read_bytes() for path in folder.glob("*/output/tokenizer.json")}
        assert made.keys() == {"bpe", "unigram", "wordpiece"}
        contents.append(made)
    for kind, first in contents[0].items():
        assert {made[kind] for made in contents} == {first}, kind


@pytest.mark.parametrize(
    ("kind", "segmenter", "size"),
    [
        ("unigram", "none", 350),
        ("wordpiece", "none", 620),
        ("word", "none", 330),
        ("word", "jieba", 330),
        ("character", "none", 270),
    ],
)
def test_the_artifact_of_every_kind_loads_in_transformers_with_equal_ids(
    tmp_path: Path, kind: str, segmenter: str, size: int
):
    from transformers import AutoTokenizer

    if segmenter == "jieba":
        pytest.importorskip("jieba", reason="the optional package jieba is not installed")
    ctx = context(tmp_path / "step")
    config = TokenizerConfig(vocab_size=size, kind=kind, segmenter=segmenter)
    metrics = tokenizer(ctx, config, documents=write_documents(tmp_path / "documents", 400))
    ours, theirs = TextTokenizer.from_folder(ctx.output), AutoTokenizer.from_pretrained(str(ctx.output))
    for text in ("Rivers aren't 12 miles 第三条河，很长。", " \n\n\t <b>1999</b> \U0001f600", "", "第一条河 从山里"):
        assert theirs(text, add_special_tokens=False).input_ids == ours.encode(text)
        assert theirs(text).input_ids == [1, *ours.encode(text)]
    assert theirs.apply_chat_template(CHAT, return_dict=True)["input_ids"] == render(ours, CHAT)[0]
    assert len(theirs) == ours.vocab_size == metrics["vocab_size"] == size


def test_what_a_sample_of_pieces_leaves_out_is_told(tmp_path: Path):
    documents = write_documents(tmp_path / "documents", 0, words=WORDS)
    tokenizer(context(tmp_path / "step"), TokenizerConfig(320, table_bytes=5000), documents=documents)
    told = (tmp_path / "step" / "journal.jsonl").read_text()
    assert re.search(r"learning from \d+ pieces; \d+ rare ones, \d+\.\d % of all occurrences, are stood for", told)


def test_scratch_is_empty_after_training(tmp_path: Path):
    ctx = context(tmp_path / "step")
    tokenizer(ctx, TokenizerConfig(vocab_size=400), documents=write_documents(tmp_path / "documents", 80))
    assert list(ctx.scratch.iterdir()) == []


def test_too_few_documents_for_the_vocabulary_are_told_with_numbers_and_a_size_that_fits(tmp_path: Path):
    documents = write_documents(tmp_path / "documents", 60)
    with pytest.raises(StepError, match=r"60 documents of \d+ bytes .* 4096 were asked for") as caught:
        tokenizer(context(tmp_path / "step"), TokenizerConfig(vocab_size=4096), documents=documents)
    size = int(caught.value.fix.partition("vocab_size=")[2].partition(",")[0])
    assert tokenizer(context(tmp_path / "again"), TokenizerConfig(size), documents=documents)["vocab_size"] == size


def test_an_empty_corpus_is_told_and_points_to_the_steps_before(tmp_path: Path):
    with pytest.raises(StepError, match="no documents") as caught:
        tokenizer(context(tmp_path / "step"), TokenizerConfig(), documents=write_documents(tmp_path / "documents", 0))
    assert "dropped" in caught.value.fix


def test_training_takes_no_more_text_than_asked_for(tmp_path: Path):
    documents = write_documents(tmp_path / "documents", 60)
    with pytest.raises(StepError, match=r"2 documents of"):
        tokenizer(context(tmp_path / "step"), TokenizerConfig(train_bytes=100), documents=documents)


@pytest.mark.parametrize("as_file", [False, True])
def test_a_given_tokenizer_is_taken_as_it_is(tmp_path: Path, as_file: bool):
    path = tmp_path / "given" / "tokenizer.json"
    path.parent.mkdir()
    train_bpe([SENTENCES[0][1]] * 3, 310, 2).save(str(path))
    ctx = context(tmp_path / "step")
    config = TokenizerConfig(path=str(path if as_file else path.parent))
    metrics = tokenizer(ctx, config, documents=write_documents(tmp_path / "documents", 4))
    assert metrics["vocab_size"] == 310
    assert (ctx.output / "tokenizer.json").read_bytes() == path.read_bytes()


def test_a_given_tokenizer_that_loses_text_is_refused(tmp_path: Path):
    lossy = train_bpe([SENTENCES[0][1]] * 3, 310, 2)
    lossy.normalizer = normalizers.Lowercase()
    lossy.save(str(tmp_path / "tokenizer.json"))
    documents = write_documents(tmp_path / "documents", 4)
    with pytest.raises(StepError, match="does not give every text back"):
        tokenizer(context(tmp_path / "step"), TokenizerConfig(path=str(tmp_path)), documents=documents)


def test_a_given_tokenizer_that_takes_text_for_special_tokens_is_refused(tmp_path: Path):
    scored = [(name, 0.0) for name in [*SPECIAL_TOKENS, *BYTE_LETTERS]]
    careless = Tokenizer(models.Unigram(scored))
    careless.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    careless.decoder = decoders.ByteLevel()
    careless.add_special_tokens(list(SPECIAL_TOKENS))
    careless.save(str(tmp_path / "tokenizer.json"))
    documents = write_documents(tmp_path / "documents", 4)
    with pytest.raises(StepError, match="takes text for special tokens"):
        tokenizer(context(tmp_path / "step"), TokenizerConfig(path=str(tmp_path)), documents=documents)


@pytest.mark.parametrize(("kind", "size"), [("unigram", 330), ("wordpiece", 600), ("character", 270)])
def test_a_tokenizer_of_another_kind_of_ours_may_be_given(tmp_path: Path, kind: str, size: int):
    documents = write_documents(tmp_path / "documents", 200)
    first = context(tmp_path / "first")
    tokenizer(first, TokenizerConfig(vocab_size=size, kind=kind), documents=documents)
    second = context(tmp_path / "second")
    assert tokenizer(second, TokenizerConfig(), documents=documents, given=first.output)["vocab_size"] == size


def test_a_stop_is_heard_before_training(tmp_path: Path):
    ctx = context(tmp_path / "step")
    (tmp_path / "step" / "stop").touch()
    with pytest.raises(Preempted):
        tokenizer(ctx, TokenizerConfig(), documents=write_documents(tmp_path / "documents", 60))


@pytest.mark.parametrize(
    "wrong",
    [
        {"vocab_size": 263},
        {"train_bytes": 0},
        {"min_frequency": 0},
        {"path": ""},
        {"kind": "sentences"},
        {"segmenter": "jieba"},
        {"vocab_size": 400, "kind": "wordpiece"},
        {"table_bytes": 9},
        {"shards_at_once": 0},
    ],
)
def test_impossible_settings_are_refused_by_key(wrong: dict[str, object]):
    with pytest.raises(ConfigError, match=f"tokenizer.{next(iter(wrong))}"):
        TokenizerConfig(**wrong)
