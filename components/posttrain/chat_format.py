"""A conversation as token ids, and which of them a model is trained to say.

The format: `<|bos|>`, then for each message its role token, its text, `<|end|>`. Nothing else: no names, no line
breaks, no trimming. Turns are encoded one by one and their ids concatenated, so the text of a turn has the same ids at
training, in a prompt and in the reward model, and a turn that holds "<|end|>" as text cannot close itself.

`CHAT_TEMPLATE` is the same format as a Jinja template for `transformers`, vLLM and others; it is kept beside the code
and tested to give equal ids. (Only for texts that spell out a special token do the two differ: the template is one
string to those libraries, and they read the token in it.) The `generation` marks in it give other trainers our mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from components.tokenizer.special import ASSISTANT, BOS, END, EOS, ROLE_IDS

if TYPE_CHECKING:
    from components.tokenizer.load import TextTokenizer

Message: TypeAlias = Mapping[str, str]

STOP_IDS = frozenset({END, EOS})

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role'] + ': use system, user or assistant') }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}"
    "{{ message['content'] + '<|end|>' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def render(tokenizer: TextTokenizer, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Renders a whole conversation.

    Args:
        tokenizer: Encodes each turn's text.
        messages: Each with "role" (system, user or assistant) and "content".

    Returns:
        The ids, and a mask of the same length: 1 on the text and the closing `<|end|>` of the assistant's turns (what
        the model is trained to predict), 0 elsewhere (role tokens, other people's turns).

    Raises:
        ValueError: If a role is unknown.
    """
    ids, mask = [BOS], [0]
    texts = tokenizer.encode_batch([message["content"] for message in messages])
    for message, text in zip(messages, texts, strict=True):
        role = _role_id(message)
        learned = int(role == ASSISTANT)
        ids += [role, *text, END]
        mask += [0, *[learned] * (len(text) + 1)]
    return ids, mask


def render_prompt(tokenizer: TextTokenizer, messages: Sequence[Message]) -> list[int]:
    """Renders a conversation up to where the assistant speaks: ends with the `<|assistant|>` id."""
    return [*render(tokenizer, messages)[0], ASSISTANT]


def _role_id(message: Message) -> int:
    role = message["role"]
    if role not in ROLE_IDS:
        raise ValueError(f"unknown role {role!r}: use {', '.join(ROLE_IDS)}")
    return ROLE_IDS[role]
