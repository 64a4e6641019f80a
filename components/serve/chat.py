"""A conversation with a model, in one process: what `headwater chat` and notebooks talk to.

The text comes in pieces as it is drawn. A piece is held back while its last character still misses bytes, so Chinese
never shows half a character. The conversation is kept; once it outgrows the model its oldest turns are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.context import derive_seed
from components.errors import StepError
from components.model.config import SamplingConfig
from components.model.generate import stream
from components.model.huggingface import check_vocabulary
from components.model.language import load_language_model
from components.posttrain.chat_format import STOP_IDS, render_prompt
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS, PAD

STYLES = ("chat", "text")
SAMPLING = SamplingConfig(temperature=0.8, top_p=0.95, max_new_tokens=96)

_UNFINISHED = "\ufffd"


class Chat:
    """A model, its tokenizer and what was said so far.

    Args:
        folder: A model folder.
        sampling: How replies are drawn.
        seed: Root of the replies' randomness: the same seed and messages give the same replies.
        style: "chat" answers in turns; "text" just continues each text, as a base model does.
        system: A first message that sets the scene, if any.
        device: Where the model computes.

    Raises:
        StepError: If the folder is no language model, or its tokenizer does not fit it.
        ValueError: If the style is unknown.
    """

    def __init__(
        self,
        folder: Path,
        sampling: SamplingConfig = SAMPLING,
        seed: int = 0,
        style: str = "chat",
        system: str | None = None,
        device: str = "cpu",
    ) -> None:
        if style not in STYLES:
            raise ValueError(f"style {style!r} is none of {', '.join(STYLES)}")
        self._model = load_language_model(folder).eval().requires_grad_(False).to(device)
        self._tokenizer = TextTokenizer.from_folder(folder)
        check_vocabulary(folder / "tokenizer.json", self._model.config.vocab_size)
        self._sampling, self._seed, self._style, self._device = sampling, seed, style, device
        self._system = [{"role": "system", "content": system}] if system else []
        self._turns = 0
        self.messages: list[dict[str, str]] = list(self._system)

    def reply(self, text: str) -> Iterator[str]:
        """Answers, piece by piece; the pieces joined are the reply. Both messages are kept once the reply has ended.

        A reply that nobody reads to its end is kept as far as it was read.

        Raises:
            StepError: If the message alone is too long for the model.
        """
        prompt = self._prompt(text)
        room = self._model.config.max_length - len(prompt)
        seed = derive_seed(self._seed, self._turns)
        said: list[str] = []
        try:
            for piece in self._pieces(prompt, min(room, self._sampling.max_new_tokens), seed):
                said.append(piece)
                yield piece
        finally:
            self._turns += 1
            self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "".join(said)}]

    def forget(self) -> None:
        """Starts a new conversation with the same model."""
        self.messages = list(self._system)

    def _pieces(self, prompt: list[int], max_new_tokens: int, seed: int) -> Iterator[str]:
        settings = self._sampling
        sampling = SamplingConfig(settings.temperature, settings.top_k, settings.top_p, max_new_tokens)
        stops = STOP_IDS if self._style == "chat" else {EOS, PAD}
        ids: list[int] = []
        shown = 0
        for token in stream(self._model, prompt, sampling, stops, seed, self._device):
            ids.append(token)
            text = self._tokenizer.decode(ids)
            if not text.endswith(_UNFINISHED) and len(text) > shown:
                yield text[shown:]
                shown = len(text)
        rest = self._tokenizer.decode(ids)[shown:]
        if rest:
            yield rest

    def _prompt(self, text: str) -> list[int]:
        """What the model reads: as much of the conversation as leaves room for a reply."""
        config = self._model.config
        limit = config.max_length - min(self._sampling.max_new_tokens, config.max_length // 2)
        if self._style == "text":
            return [BOS, *self._tokenizer.encode(text)[1 - limit :]]
        history = self.messages[len(self._system) :]
        for first in range(0, len(history) + 1, 2):
            messages = [*self._system, *history[first:], {"role": "user", "content": text}]
            prompt = render_prompt(self._tokenizer, messages)
            if len(prompt) <= limit:
                return prompt
        raise StepError(
            f"The message has {len(prompt)} tokens; the model reads {limit} and keeps the rest for its reply.",
            where=f"model.max_length={config.max_length}",
            fix="send a shorter message",
        )
