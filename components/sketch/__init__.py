"""What makes texts comparable: folded letters, shingles, MinHash bands, hashes of lines and passages."""
