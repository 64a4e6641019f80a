"""Post-training algorithms and formats shared by SFT, the reward model and PPO: pure functions, no orchestrator."""
