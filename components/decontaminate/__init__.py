"""Keeps evaluation items out of the training text, and proves on planted leaks that it does."""
