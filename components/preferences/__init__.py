"""Preferences: pairs of replies of which people prefer one, and the prompts that PPO answers."""
