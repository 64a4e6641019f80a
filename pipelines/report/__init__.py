"""Reports: one self-contained page out of the records of a run."""
