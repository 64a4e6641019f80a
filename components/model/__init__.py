"""The Transformer: one readable model, its losses, its sampler, and the folder format that Hugging Face loads."""
