"""PPO: moves the fine-tuned model towards what the reward model prefers, at a price per nat it drifts away."""
