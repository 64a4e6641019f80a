"""The special tokens and their ids, the same in every tokenizer of ours: seven, and masks where they are asked for.

They are fixed rather than looked up, so that data, training and sampling agree without passing a tokenizer around.
Text can never produce them: `TextTokenizer` reads "<|end|>" in a page as seven ordinary characters.
"""

from __future__ import annotations

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, END = range(len(SPECIAL_TOKENS))

MASK = len(SPECIAL_TOKENS)
"""Id of the first mask, in a tokenizer that has masks; the others follow it."""

ROLE_IDS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}


def special_tokens(num_masks: int) -> tuple[str, ...]:
    """The special tokens of a tokenizer by id: the seven, then masks, which stand for what a model is to fill in.

    Args:
        num_masks: Masks: none for models that write on, one for masked words, many for gaps that are told apart.
    """
    masks = ("<|mask|>" if number == 0 else f"<|mask_{number}|>" for number in range(num_masks))
    return (*SPECIAL_TOKENS, *masks)
