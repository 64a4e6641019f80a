"""What a model is asked to learn beside the next token: masked words, gaps, one text from another. Numbers in and out.

All of it is numpy and a pure function of its arguments and of a random generator that comes in, so that a batch is a
function of the step, on any rank and after any resume.
"""
