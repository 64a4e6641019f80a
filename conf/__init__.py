"""Hydra groups: what runs. YAML only."""
