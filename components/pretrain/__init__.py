"""Pretraining: a Transformer from scratch on packed token rows."""
