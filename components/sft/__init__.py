"""Supervised fine-tuning: a base model learns to answer."""
