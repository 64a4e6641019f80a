"""Texts with a label each: what a classifier is fine-tuned on and judged by."""
