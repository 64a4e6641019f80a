"""An encoder-decoder that writes one text of another, and how good its texts are."""
