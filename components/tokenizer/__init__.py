"""The tokenizer: byte-level BPE trained on the corpus, the special tokens, and the one way text becomes ids."""
