"""The sample source: openly licensed text that installs from PyPI, and a website built out of it."""
