"""The reward model: learns from pairs which of two replies people prefer."""
