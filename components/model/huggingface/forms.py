"""From our names and layouts of weights to Hugging Face's and back, driven by the tables of `names`.

A `Rule` pairs one of our parameters with one or several of theirs. Ours are fused (queries, keys and values in one
matrix), theirs mostly split; a `Form` says how the one becomes the others and back. A rule's names stand for a weight
and its bias alike; `{n}` is the number of a block. Which parameters a model has is never said here: our own model
built from its config knows, and the rules are asked for exactly those.

Shapes: D model width, F feed-forward width, H query heads, K key-value heads, C head width, E experts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from components.model.config import ModelConfig

Weights: TypeAlias = Mapping[str, Tensor]
SUFFIXES = (".weight", ".bias")


@dataclass(frozen=True)
class Form:
    """How one tensor of ours becomes those of theirs, and back.

    Attributes:
        split: Ours to theirs, in the order of the rule's names.
        join: Theirs to ours.
    """

    split: Callable[[ModelConfig, Tensor], Sequence[Tensor]]
    join: Callable[[ModelConfig, Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Rule:
    """One parameter of ours and those of theirs that hold the same numbers.

    Attributes:
        ours: Name, or beginning of the names of a weight and its bias.
        theirs: The same on their side; `{e}` stands for every expert in turn.
        form: How the tensors differ.
        whole: Whether the names are whole, without ".weight" and ".bias" to come.
    """

    ours: str
    theirs: tuple[str, ...]
    form: Form
    whole: bool = False


@dataclass(frozen=True)
class Link:
    """A rule for one parameter of one block: full names on both sides."""

    theirs: tuple[str, ...]
    form: Form


def links(config: ModelConfig, rules: Sequence[Rule]) -> dict[str, Link]:
    """The rules written out for every block and expert, by our full names."""
    found: dict[str, Link] = {}
    for rule in rules:
        for number in _numbers(config, rule.ours):
            ours = rule.ours.replace("{n}", str(number))
            theirs = tuple(name.replace("{n}", str(number)) for name in rule.theirs)
            for suffix in ("",) if rule.whole else SUFFIXES:
                names = tuple(_experts(config, tuple(name + suffix for name in theirs)))
                found[ours + suffix] = Link(names, rule.form)
    return found


def to_theirs(config: ModelConfig, rules: Sequence[Rule], state: Weights) -> dict[str, Tensor]:
    """Renames and splits our weights into theirs.

    Raises:
        KeyError: If the tables have no place for one of them.
    """
    table = links(config, rules)
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        link = table[name]
        tensors |= zip(link.theirs, link.form.split(config, tensor), strict=True)
    return tensors


class Ours(Mapping[str, Tensor]):
    """Their weights renamed and joined into ours, each when it is asked for. The inverse of `to_theirs`.

    Args:
        config: Shape of the model.
        rules: Of their class.
        tensors: Their weights; who asks for one of ours that needs one which is not there gets a KeyError.
        wanted: Names of all our parameters.

    Raises:
        KeyError: If the tables have no place for one of them.
    """

    def __init__(self, config: ModelConfig, rules: Sequence[Rule], tensors: Weights, wanted: Iterable[str]) -> None:
        table = links(config, rules)
        self._links = {name: table[name] for name in wanted}
        self._config, self._tensors = config, tensors

    @property
    def used(self) -> set[str]:
        """Names of those of theirs that go into ours."""
        return {name for link in self._links.values() for name in link.theirs}

    def __getitem__(self, name: str) -> Tensor:
        link = self._links[name]
        return link.form.join(self._config, [self._tensors[other] for other in link.theirs])

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)


def _numbers(config: ModelConfig, name: str) -> range:
    if "{n}" not in name:
        return range(1)
    return range(config.encoder_layers if name.startswith("encoder.") else config.num_layers)


def _experts(config: ModelConfig, theirs: tuple[str, ...]) -> Iterator[str]:
    if "{e}" not in theirs[0]:
        yield from theirs
        return
    for expert in range(config.num_experts):
        yield from (name.replace("{e}", str(expert)) for name in theirs)


def _rows(sizes: Callable[[ModelConfig], Sequence[int]]) -> Form:
    """Theirs stand below each other in ours."""
    return Form(
        split=lambda config, tensor: torch.split(tensor, list(sizes(config))),
        join=lambda config, parts: torch.cat(list(parts)),
    )


def _kv_width(config: ModelConfig) -> int:
    return config.num_kv_heads * config.head_dim


SAME = Form(split=lambda config, tensor: [tensor], join=lambda config, parts: parts[0])

QKV = _rows(lambda config: (config.num_heads * config.head_dim, _kv_width(config), _kv_width(config)))
"""Queries, keys, values."""

KEY_VALUE = _rows(lambda config: (_kv_width(config), _kv_width(config)))

GATE_UP = _rows(lambda config: (config.ffn_dim, config.ffn_dim))

TRANSPOSED = Form(split=lambda config, tensor: [tensor.t()], join=lambda config, parts: parts[0].t())
"""GPT-2's `Conv1D` keeps matrices as inputs x outputs; a bias has one dimension and stays as it is."""


def _heads_together(config: ModelConfig, tensor: Tensor) -> list[Tensor]:
    parts_3HC = tensor.reshape(3, config.num_heads, config.head_dim, *tensor.shape[1:])
    return [parts_3HC.transpose(0, 1).flatten(0, 2)]


def _heads_apart(config: ModelConfig, parts: Sequence[Tensor]) -> Tensor:
    parts_H3C = parts[0].reshape(config.num_heads, 3, config.head_dim, *parts[0].shape[1:])
    return parts_H3C.transpose(0, 1).flatten(0, 2)


BY_HEAD = Form(split=_heads_together, join=_heads_apart)
"""BLOOM's fused matrix holds query, key and value of the first head, then of the second; ours all queries first."""

AFTER_TWO = Form(
    split=lambda config, tensor: [torch.cat([torch.zeros_like(tensor[:2]), tensor])],
    join=lambda config, parts: parts[0][2:],
)
"""BART's table of positions begins with two rows that nothing reads."""

ONE_ROW = Form(split=lambda config, tensor: [tensor[None]], join=lambda config, parts: parts[0][0])

EXPERTS_GATE_UP = Form(
    split=lambda config, tensor: [part for expert in tensor for part in expert.chunk(2)],
    join=lambda config, parts: torch.stack([torch.cat(list(pair)) for pair in zip(*[iter(parts)] * 2, strict=True)]),
)
EXPERTS_DOWN = Form(split=lambda config, tensor: list(tensor), join=lambda config, parts: torch.stack(list(parts)))
