"""One training loop for every stage, over two engines behind one small interface."""
