"""Pairs of a source and a target text: what an encoder-decoder learns to write one of the other from."""
