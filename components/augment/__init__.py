"""More training examples out of few: easy data augmentation of labelled texts and instructions."""
