"""What a text looks like, in numbers: normalised, personal data masked, every statistic computed once and stored."""
