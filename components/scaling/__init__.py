"""Scaling laws: what the losses of many small trainings say about a larger one."""
