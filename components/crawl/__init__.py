"""The crawler: pages over HTTP into WARC files, politely, with a frontier that survives a kill."""
