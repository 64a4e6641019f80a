"""Makes tokenizers out of a table of counted pieces, as objects of the `tokenizers` library.

All kinds work on bytes: a piece is written with one character for each of its bytes (the byte-level alphabet of
GPT-2), all 256 are in the vocabulary, and the decoder turns them back. So every text has ids, gives its own bytes back
and needs no `<|unk|>`; the length of a token's name is the number of bytes it stands for. What differs is how a piece
becomes tokens:

    bpe         merges of byte pairs, in the order they were learned
    unigram     the most probable cut, see `unigram`
    wordpiece   longest match from the left; tokens inside a piece are named with a tie before them
    word        the whole piece if it is in the vocabulary, else its bytes; with jieba the most probable cut into words
    character   the character if it is in the vocabulary, else its bytes

The trainer of byte pairs is the library's. It takes texts, not counts, and its result depends on the counts alone (ties
go by token number), so it is fed every piece as often as it was counted. Its WordPiece trainer numbers tokens in
the order of a hash table, another one in every process; here WordPiece is byte pairs over an alphabet of 512, in which
a byte at the beginning of a piece and the same byte inside are two letters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from components.tokenizer.counting import Entry, count_texts
from components.tokenizer.pieces import LONGEST_TOKEN_BYTES, pattern_of
from components.tokenizer.special import BOS, SPECIAL_TOKENS, special_tokens

TIE = "\u203f"
"""Stands before the name of a WordPiece token that continues a piece; no byte is written with it."""

NEVER = -1e6
"""Score of what a most probable cut must not hold: the special tokens."""

_FEED_CHARS = 10_000  # the library holds 256 texts that it has not read
_FIRST, _INSIDE = 0xF0000, 0xF0100  # letters for bytes at the beginning of a piece, and further on; private to training


def _byte_letters() -> list[str]:
    """GPT-2's letter for every byte: itself where it prints, else one from 256 on."""
    prints = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


BYTE_LETTERS = _byte_letters()
_TO_LETTERS = dict(enumerate(BYTE_LETTERS))


def letters_of(piece: str) -> str:
    """A piece with one letter for each of its UTF-8 bytes, as the library's byte-level pre-tokenizer writes it."""
    return piece.encode().decode("latin-1").translate(_TO_LETTERS)


def train_bpe(texts: Iterable[str], vocab_size: int, min_frequency: int) -> Tokenizer:
    """Trains byte-level BPE on some texts, in whatever order they come.

    Args:
        texts: Read once.
        vocab_size: Ids wanted, special ones included; fewer result when the texts have too few repeated pairs.
        min_frequency: Pairs seen fewer times are not merged.

    Returns:
        A tokenizer that puts `<|bos|>` before a text when asked for special tokens, as `transformers` does by default.
    """
    return train("bpe", "none", count_texts(texts, "bpe"), vocab_size, min_frequency)


def train(
    kind: str, segmenter: str, table: Iterable[Entry], vocab_size: int, min_frequency: int, num_masks: int = 0
) -> Tokenizer:
    """Trains a tokenizer of any kind.

    Args:
        kind: See `TokenizerConfig`.
        segmenter: See `TokenizerConfig`.
        table: Pieces of that kind with their counts, see `counting`; read once.
        vocab_size: Ids wanted, special ones included; fewer result when the table has too little for them.
        min_frequency: What is counted fewer times does not become a token.
        num_masks: Special tokens for what a model is to fill in, see `special`.
    """
    special = special_tokens(num_masks)
    decoder: decoders.Decoder = decoders.ByteLevel()
    if kind == "bpe":
        model = _bpe(table, special, vocab_size, min_frequency)
    elif kind == "wordpiece":
        model = _wordpiece(table, special, vocab_size, min_frequency)
        decoder = decoders.Sequence([decoders.Replace(TIE, ""), decoder])
    elif kind == "unigram":
        from components.tokenizer.unigram import train_unigram

        model = _most_probable(train_unigram(table, vocab_size - len(special), min_frequency), special)
    elif segmenter == "none":
        model = _whole(_most_counted(table, vocab_size - len(special), min_frequency), special)
    else:
        model = _most_probable(_log_shares(list(table), vocab_size - len(special), min_frequency), special)
    return _dressed(model, decoder, pattern_of(kind, segmenter), special)


def _dressed(model: models.Model, decoder: decoders.Decoder, pattern: str, special: Sequence[str]) -> Tokenizer:
    """A tokenizer around a model: how to cut, how to decode, what is special."""
    tokenizer = Tokenizer(model)
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, as_bytes])
    tokenizer.decoder = decoder
    bos = SPECIAL_TOKENS[BOS]
    tokenizer.post_processor = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A $B", [(bos, BOS)])
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def _bpe(table: Iterable[Entry], special: Sequence[str], vocab_size: int, min_frequency: int) -> models.Model:
    words = ((letters_of(piece), count) for piece, count in table)
    model: models.Model = _merged(words, BYTE_LETTERS, special, vocab_size, min_frequency).model
    return model


def _wordpiece(table: Iterable[Entry], special: Sequence[str], vocab_size: int, min_frequency: int) -> models.Model:
    first = {chr(_FIRST + byte): letter for byte, letter in enumerate(BYTE_LETTERS)}
    inside = {chr(_INSIDE + byte): letter for byte, letter in enumerate(BYTE_LETTERS)}
    words = ((_placed(piece), count) for piece, count in table)
    trained = _merged(words, [*first, *inside], special, vocab_size, min_frequency)
    names = {}
    for name, index in sorted(trained.get_vocab().items(), key=lambda item: item[1]):
        plain = "".join(first.get(letter) or inside.get(letter, letter) for letter in name)
        names[(TIE if name[0] in inside else "") + plain] = index
    # No piece is longer than the model's limit, so `unk_token` is never given; it must be one that is there.
    return models.WordPiece(
        names, unk_token=SPECIAL_TOKENS[0], continuing_subword_prefix=TIE, max_input_chars_per_word=1 << 30
    )


def _placed(piece: str) -> str:
    """A piece in the letters of `_wordpiece`: by byte, and by whether it is the first one."""
    head, *tail = piece.encode()
    return chr(_FIRST + head) + "".join(chr(_INSIDE + byte) for byte in tail)


def _merged(
    words: Iterable[Entry], alphabet: list[str], special: Sequence[str], vocab_size: int, min_frequency: int
) -> Tokenizer:
    """Byte pairs by the library's trainer; special tokens first, then the alphabet, then merges in order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special),
        initial_alphabet=alphabet,
        max_token_length=LONGEST_TOKEN_BYTES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(words), trainer)
    return tokenizer


def _repeated(words: Iterable[Entry]) -> Iterator[str]:
    """Every word as often as it was counted, with spaces between, in texts of moderate length."""
    held: list[str] = []
    size = 0
    for word, count in words:
        at_once = max(1, _FEED_CHARS // (len(word) + 1))
        for start in range(0, count, at_once):
            held.append(f"{word} " * min(at_once, count - start))
            size += len(held[-1])
            if size >= _FEED_CHARS:
                yield "".join(held)
                held, size = [], 0
    yield "".join(held)


def _most_counted(table: Iterable[Entry], size: int, min_frequency: int) -> list[Entry]:
    """The most frequent pieces that are more than one byte, in letters, as many as the vocabulary has room for."""
    room = size - len(BYTE_LETTERS)
    ordered = sorted(((-count, piece) for piece, count in table if count >= min_frequency), key=lambda item: item)
    long_enough = [(letters_of(piece), -count) for count, piece in ordered if len(piece.encode()) > 1]
    return long_enough[:room]


def _whole(entries: Sequence[Entry], special: Sequence[str]) -> models.Model:
    """A model that takes a piece as one token if it can, else its bytes."""
    names = [*special, *BYTE_LETTERS, *(name for name, _ in entries)]
    return models.BPE({name: index for index, name in enumerate(names)}, [], ignore_merges=True)


def _log_shares(table: Sequence[Entry], size: int, min_frequency: int) -> list[tuple[str, float]]:
    """Words and bytes with the logarithm of their share, which is how jieba scores a word."""
    counts = {letters_of(piece): count for piece, count in table}
    total = sum(counts.values())
    words = [(name, round(math.log(count / total), 6)) for name, count in _most_counted(table, size, min_frequency)]
    single = [(letter, round(math.log(counts.get(letter, 0.5) / total), 6)) for letter in BYTE_LETTERS]
    return [*single, *words]


def _most_probable(scored: Sequence[tuple[str, float]], special: Sequence[str]) -> models.Model:
    """A model that cuts a piece in the most probable way."""
    return models.Unigram([*((name, NEVER) for name in special), *scored])
