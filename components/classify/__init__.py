"""Fine-tuning a pretrained encoder to label texts, and judging it beside simpler ways."""
