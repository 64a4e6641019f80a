"""The seven special tokens and their ids, the same in every tokenizer of ours.

They are fixed rather than looked up, so that data, training and sampling agree without passing a tokenizer around.
Text can never produce them: `TextTokenizer` reads "<|end|>" in a page as seven ordinary characters.
"""

from __future__ import annotations

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, END = range(len(SPECIAL_TOKENS))

ROLE_IDS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
