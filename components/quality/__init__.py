"""Which documents read like the good ones: a small classifier trained from the corpus itself or from given texts."""
