"""Packing: which pieces of which documents share a training row, as a plan over token shards."""
