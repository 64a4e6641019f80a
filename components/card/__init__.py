"""The data card: what a corpus holds, where it is from, what was dropped on the way and why."""
