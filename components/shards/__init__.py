"""Token shards: documents as ids in memory-mapped Arrow files, and the loader that serves them as training rows."""
