"""Pages in, documents out: encoding, main text, title and language of crawled HTML."""
