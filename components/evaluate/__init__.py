"""Evaluation: what each stage of training was worth, in numbers with their errors and in replies side by side."""
