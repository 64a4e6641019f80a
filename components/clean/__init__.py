"""Which documents are worth learning from: statistics of a text, and rules over them."""
