"""Any causal language model of transformers in the place of ours: the same calls, its own code and its own folder.

`ExternalModel` answers as `Transformer` does (summed loss, logits, hidden states, a cache), so that supervised
fine-tuning, reward models, PPO and continued pretraining start from published weights whatever their architecture.
What a model type does differently is found out by trying it once on a few tokens when it is loaded, not looked up in a
list of names:

- Is its output projection a matrix on its last hidden states? Then the loss is computed in chunks and logits are never
  held whole. Some cap or scale their logits: those are asked for logits.
- Does it take a mask of whole documents? Then packed rows go through as they are. Else every document becomes a row.

A scalar model is its sequence classifier with one label. Folders are read and written in `external_folder`.

Shapes: B batch, T tokens, S tokens so far, D model width, V vocabulary, N documents (or tokens), W longest document.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.errors import StepError
from components.model.heads import draw_score
from components.model.loss import IGNORED, cross_entropy
from components.model.masks import segments_see
from components.model.positions import positions_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

LANGUAGE, SCALAR = "language", "scalar"
UNLIMITED = 1 << 20
"""`max_length` of a model that names no limit."""

_CLOSE = 1e-4
"""Largest difference of two ways to the same numbers, relative to the largest of them, in fp32."""


@dataclass(frozen=True)
class ExternalConfig:
    """What the rest of the code asks of a model's shape, and what transformers needs to build it.

    Attributes:
        model_type: Name of the architecture.
        head: "language" or "scalar".
        vocab_size: Rows of the embedding.
        dim: Width of the residual stream.
        num_layers: Blocks.
        max_length: Longest sequence in tokens.
        values: The content of its config.json.
    """

    model_type: str
    head: str
    vocab_size: int
    dim: int
    num_layers: int
    max_length: int
    values: str

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return True


class ExternalCache:
    """Keys and values of a batch of left-padded prompts, in the cache of transformers.

    Args:
        config: Of the model, in the words of transformers.
        padding_B: Padding slots at the start of each row.
    """

    def __init__(self, config: PretrainedConfig, padding_B: Tensor) -> None:
        from transformers import DynamicCache

        self.past = DynamicCache(config=config)
        self.padding_B = padding_B
        self.length = 0

    def advance(self, num_tokens: int) -> None:
        """Counts the tokens that the model has now seen."""
        self.length += num_tokens

    def keep(self, rows: Tensor) -> None:
        """Forgets all rows but these (indices, in order; one that is named twice becomes two)."""
        self.past.reorder_cache(rows)
        self.padding_B = self.padding_B[rows]

    def mask(self, num_tokens: int) -> Tensor:
        """Which slots hold tokens, once so many more are there, int64 [B, S]."""
        slots_S = torch.arange(self.length + num_tokens, device=self.padding_B.device)
        return (slots_S >= self.padding_B[:, None]).long()

    def positions(self, num_tokens: int) -> Tensor:
        """Positions of the next tokens in their own row, [B, T]; 0 for padding."""
        slots_T = torch.arange(self.length, self.length + num_tokens, device=self.padding_B.device)
        return (slots_T - self.padding_B[:, None]).clamp_(min=0)


class _External(nn.Module):
    """A model of transformers and its hidden states.

    Args:
        inner: The model; its parameters appear here under the prefix "inner.".
        head: What it has on its backbone.
    """

    def __init__(self, inner: PreTrainedModel, head: str) -> None:
        super().__init__()
        self.inner = inner
        self.config = config_of(inner.config, head, inner.get_input_embeddings().weight.shape[0])
        self._takes_positions = "position_ids" in inspect.signature(inner.base_model.forward).parameters
        self._takes_documents = _takes_documents(inner) if self._takes_positions else False

    def hidden(
        self,
        tokens_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: ExternalCache | None = None,
    ) -> Tensor:
        """Last hidden states, [B, T, D]; arguments as in `Transformer.forward`."""
        return self._said(self.inner.base_model, tokens_BT, positions_BT, segments_BT, cache)

    def _said(
        self,
        module: nn.Module,
        tokens_BT: Tensor,
        positions_BT: Tensor | None,
        segments_BT: Tensor | None,
        cache: ExternalCache | None,
    ) -> Tensor:
        """What the backbone (hidden states) or the whole model (logits) says of each token, [B, T, D or V]."""
        if cache is not None:
            length = tokens_BT.shape[1]
            said = self._run(module, tokens_BT, cache.positions(length), cache.mask(length), cache)
            cache.advance(length)
            return said
        if segments_BT is None:
            return self._run(module, tokens_BT, positions_BT)
        if self._takes_documents:
            mask, positions = _documents(segments_BT, self.inner.dtype)
            return self._run(module, tokens_BT, positions, mask)
        rows_BT, places_BT = _apart(segments_BT)
        shape = (int(rows_BT.max()) + 1, int(places_BT.max()) + 1)
        tokens_NW = tokens_BT.new_zeros(shape).index_put((rows_BT, places_BT), tokens_BT)
        mask_NW = tokens_BT.new_zeros(shape).index_put((rows_BT, places_BT), torch.ones_like(tokens_BT))
        return self._run(module, tokens_NW, None, mask_NW)[rows_BT, places_BT]

    def _run(
        self,
        module: nn.Module,
        tokens: Tensor,
        positions: Tensor | None,
        mask: Tensor | None = None,
        cache: ExternalCache | None = None,
    ) -> Tensor:
        placed = {"position_ids": positions} if self._takes_positions and positions is not None else {}
        kept = {"past_key_values": cache.past, "use_cache": True} if cache else {"use_cache": False}
        said: Tensor = module(input_ids=tokens, attention_mask=mask, **placed, **kept)[0]
        return said


class ExternalModel(_External):
    """A causal language model of transformers that answers as `Transformer` does.

    Args:
        inner: The model; its parameters appear here under the prefix "inner.".
    """

    def __init__(self, inner: PreTrainedModel) -> None:
        super().__init__(inner, LANGUAGE)
        self._projects = _projects(inner)

    def forward(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor | None = None,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: ExternalCache | None = None,
        num_logits: int = 0,
    ) -> Tensor:
        """As `Transformer.forward`; a mixture of experts adds no load-balancing loss."""
        given = (tokens_BT, positions_BT, segments_BT, cache)
        if self._projects:
            hidden_BTD = self._said(self.inner.base_model, *given)
            head = self._head()
            if targets_BT is not None:
                return cross_entropy(hidden_BTD, head.weight, targets_BT, head.bias)
            logits_BTV: Tensor = head(hidden_BTD[:, -num_logits:])
            return logits_BTV
        logits_BTV = self._said(self.inner, *given)
        if targets_BT is None:
            return logits_BTV[:, -num_logits:]
        return F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def logits_at(self, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Logits of some positions alone, [N, V]: projecting is most of a small model's work."""
        if self._projects:
            logits_NV: Tensor = self._head()(self.hidden(tokens_BT)[mask_BT])
            return logits_NV
        return self._said(self.inner, tokens_BT, None, None, None)[mask_BT]

    def make_cache(self, padding_B: Tensor) -> ExternalCache:
        """An empty cache for a batch of left-padded prompts."""
        return ExternalCache(self.inner.config, padding_B)

    def _head(self) -> nn.Linear:
        return cast(nn.Linear, self.inner.get_output_embeddings())


class ExternalScalar(_External):
    """One number per token on the backbone of a model of transformers: its sequence classifier with one label.

    Args:
        inner: The classifier; its parameters appear here under the prefix "inner.".
    """

    def __init__(self, inner: PreTrainedModel) -> None:
        super().__init__(inner, SCALAR)

    @classmethod
    def from_language(cls, model: ExternalModel, generator: torch.Generator | None = None) -> ExternalScalar:
        """Copies a language model's backbone and adds a head; arguments as of `ScalarModel.from_transformer`.

        Raises:
            StepError: If transformers has no sequence classifier for the model's type.
        """
        scalar = cls(classifier_of(model.inner.config, model.config.model_type))
        scalar.inner.base_model.load_state_dict(model.inner.base_model.state_dict())
        draw_score(scalar.inner.score.weight, generator)
        return scalar

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: ExternalCache | None = None,
    ) -> Tensor:
        """The head's value at every token, [B, T]; arguments as in `Transformer.forward`."""
        hidden_BTD = self.hidden(tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT, cache=cache)
        values_BT: Tensor = self.inner.score(hidden_BTD).squeeze(-1)
        return values_BT


def classifier_of(config: PretrainedConfig, model_type: str) -> PreTrainedModel:
    """A new sequence classifier with one label.

    Raises:
        StepError: If transformers has none for the type, or one with another sort of head.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    values = {**config.to_dict(), "id2label": {0: "score"}, "label2id": {"score": 0}, "num_labels": 1}
    try:
        inner = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**values))
    except ValueError as error:
        raise StepError(
            f"transformers has no sequence classifier of the type {model_type}.",
            where="reward",
            fix="train the reward model from another base model",
        ) from error
    if not isinstance(getattr(inner, "score", None), nn.Linear):
        raise StepError(
            f"The sequence classifier of the type {model_type} has no linear head `score` on its hidden states.",
            where="reward",
            fix="train the reward model from another base model",
        )
    return cast("PreTrainedModel", inner)


def config_of(theirs: PretrainedConfig, head: str, vocab_size: int) -> ExternalConfig:
    """A shape out of the settings of transformers."""
    config = theirs.get_text_config()
    lengths = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len"))
    return ExternalConfig(
        model_type=theirs.model_type,
        head=head,
        vocab_size=vocab_size,
        dim=config.hidden_size,
        num_layers=config.num_hidden_layers,
        max_length=next((length for length in lengths if length), UNLIMITED),
        values=json.dumps(theirs.to_dict(), default=str),
    )


@torch.no_grad()
def _projects(inner: PreTrainedModel) -> bool:
    """Whether the logits are the output projection of the last hidden states and nothing else."""
    head = inner.get_output_embeddings()
    if not isinstance(head, nn.Linear) or inner.base_model is inner:
        return False
    with _evaluating(inner):
        tokens = _few_tokens(inner)
        said = inner(input_ids=tokens, use_cache=False).logits
        return _equal(said, head(inner.base_model(input_ids=tokens, use_cache=False)[0]))


@torch.no_grad()
def _takes_documents(inner: PreTrainedModel) -> bool:
    """Whether a packed row under a mask of documents gives what each document gives alone.

    A few tokens cannot show a sliding window, which such a mask would open: models with one are not asked.
    """
    config = inner.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "sliding_window", None):
        return False
    tokens = _few_tokens(inner)
    segments = torch.tensor([[1, 1, 1, 2, 2]], device=tokens.device)
    mask, positions = _documents(segments, inner.dtype)
    with _evaluating(inner):
        alone = [inner.base_model(input_ids=part, use_cache=False)[0] for part in (tokens[:, :3], tokens[:, 3:])]
        try:
            said = inner.base_model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False)[0]
        except (ValueError, RuntimeError, IndexError, TypeError):
            return False  # it wants a mask of another form
    return _equal(said, torch.cat(alone, dim=1))


@contextmanager
def _evaluating(inner: PreTrainedModel) -> Iterator[None]:
    """Without dropout; the mode is put back afterwards."""
    training = inner.training
    inner.eval()
    try:
        yield
    finally:
        inner.train(training)


def _few_tokens(inner: PreTrainedModel) -> Tensor:
    weight = inner.get_input_embeddings().weight
    tokens: Tensor = torch.arange(5, device=weight.device)[None] % weight.shape[0]
    return tokens


def _equal(said: Tensor, other: Tensor) -> bool:
    return said.shape == other.shape and bool((said - other).abs().max() <= _CLOSE * said.abs().max())


def _documents(segments_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What is added to the scores so that documents do not see each other, [B, 1, T, T]; positions in each, [B, T]."""
    visible = segments_see(segments_BT, segments_BT, causal=True)
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min), positions_of(segments_BT)


def _apart(segments_BT: Tensor) -> tuple[Tensor, Tensor]:
    """For each token of packed rows its document's number in the batch and its place therein, [B, T] each."""
    places_BT = positions_of(segments_BT)
    rows = (places_BT == 0).flatten().cumsum(0) - 1
    return rows.view_as(places_BT), places_BT
