"""Keeps evaluation items out of the training text, and proves on injected leaks that it does."""
