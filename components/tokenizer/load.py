"""Text to ids and back, with the one promise the rest builds on: no text whatsoever yields a special id.

A thin class over the `tokenizers` library. Hugging Face tokenizers recognise "<|end|>" inside any text, which would let
a web page or a user's message close a turn; here special ids are only ever placed by our own code (`chat_format`,
the `tokens` step). Every kind that the step trains is over bytes, so `decode(encode(text)) == text` for every text that
has a UTF-8 form. Byte-level BPE takes a faster way to the same ids where that is proven, see `fast`; tokenizer.json
remains the only file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from components.errors import StepError
from components.tokenizer.fast import fast_encoder
from components.tokenizer.special import MASK, SPECIAL_TOKENS, special_tokens
from components.tokenizer.train import BYTE_LETTERS, TIE

FILE_NAME = "tokenizer.json"

_BYTES = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


class TextTokenizer:
    """A tokenizer that reads text as text.

    Args:
        tokenizer: A tokenizer of the `tokenizers` library that has our special tokens at ids 0 to 6, and its masks, if
            it has any, from 7 on.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @classmethod
    def from_folder(cls, folder: Path) -> TextTokenizer:
        """Loads a tokenizer artifact, or any model folder of ours (the tokenizer travels with the model).

        Raises:
            StepError: See `from_file`.
        """
        return cls.from_file(folder / FILE_NAME)

    @classmethod
    def from_file(cls, path: Path) -> TextTokenizer:
        """Loads a tokenizer.json.

        Raises:
            StepError: If it is missing or damaged, or its special tokens are not the ones of `special`.
        """
        tokenizer = _read(path)
        found = [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
        if found != list(range(len(SPECIAL_TOKENS))):
            listed = ", ".join(f"{token}={index}" for token, index in zip(SPECIAL_TOKENS, found, strict=True))
            raise StepError(
                f"The tokenizer's special tokens are not at ids 0 to {len(SPECIAL_TOKENS) - 1}: {listed}.",
                where=str(path),
                fix="train one with the tokenizer step (tokenizer.path=null)",
            )
        return cls(tokenizer)

    @property
    def is_fast(self) -> bool:
        """Whether ids come by the fast way, see `fast`."""
        return self._fast is not None

    @property
    def vocab_size(self) -> int:
        """Number of ids, the special ones included: the size of the embedding table."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @cached_property
    def num_masks(self) -> int:
        """Special tokens that stand for what is left out, from the id `MASK` on."""
        added = {index: token.content for index, token in self._tokenizer.get_added_tokens_decoder().items()}
        most = len(added) - MASK
        return next((count for count in range(most, 0, -1) if _holds(added, special_tokens(count))), 0)

    @property
    def num_special(self) -> int:
        """Special tokens: the ids below it stand for no text."""
        return MASK + self.num_masks

    def encode(self, text: str) -> list[int]:
        """Ids of a text; never a special one, whatever the text holds. No begin or end token is added."""
        if self._fast is not None:
            return self._fast(text)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text.

        Without the fast way on the library's own threads; TOKENIZERS_PARALLELISM=false keeps it to one.
        """
        if self._fast is not None:
            return list(map(self._fast, texts))
        return [row.ids for row in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """`encode` of each text as arrays [ids] of uint32, which `tokens` writes as they are."""
        return [np.array(ids, dtype=np.uint32) for ids in self.encode_batch(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids, special ones left out. Bytes that are not whole UTF-8 become U+FFFD."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def bytes_of(self, ids: Iterable[int]) -> int:
        """Number of UTF-8 bytes of text that some ids stand for; special ids stand for none."""
        sizes = self.token_bytes
        return sum(sizes[index] for index in ids)

    @cached_property
    def token_bytes(self) -> tuple[int, ...]:
        """Bytes of text behind every id, by id.

        In a byte-level vocabulary each character of a token's name stands for one byte, so its length is the answer;
        the tie that WordPiece puts before a token inside a piece stands for none.
        """
        names = (self._tokenizer.id_to_token(index) or "" for index in range(self.vocab_size))
        sizes = (len(name.removeprefix(TIE)) for name in names)
        return tuple(0 if index < self.num_special else size for index, size in enumerate(sizes))

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of text behind every id, by id; none behind special ones."""
        names = (self._tokenizer.id_to_token(index) or "" for index in range(self.vocab_size))
        plain = (name.removeprefix(TIE) for name in names)
        return tuple(
            b"" if index < self.num_special else bytes(map(_BYTES.__getitem__, name))
            for index, name in enumerate(plain)
        )

    @cached_property
    def _fast(self) -> Callable[[str], list[int]] | None:
        return fast_encoder(self._tokenizer.to_str())


def _holds(added: Mapping[int, str], names: Sequence[str]) -> bool:
    return all(added.get(index) == name for index, name in enumerate(names))


def _read(path: Path) -> Tokenizer:
    if not path.is_file():
        raise StepError(
            "There is no tokenizer here.",
            where=f"{path} does not exist",
            fix="give the folder that the tokenizer step wrote, or a model folder",
        )
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exception for whatever it cannot read
        raise StepError(
            f"The tokenizer cannot be read: {error}.",
            where=str(path),
            fix="delete the artifact it belongs to and run again, or give another tokenizer.json",
        ) from error
