"""One copy of each text: exact duplicates by hash, near duplicates by MinHash and true Jaccard similarity."""
