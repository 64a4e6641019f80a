"""Corpora that are there already: WARC files of other crawls, JSONL, Parquet and text files."""
