"""Runs one of the steps alone: `python -m components.ingest warc paths=[a.warc.gz]`, or `files paths=[rows.jsonl]`."""

import sys

from components.ingest.config import IngestFilesConfig, IngestWarcConfig
from components.ingest.step import ingest_files, ingest_warc
from components.standalone import main

kind, arguments = sys.argv[1:2], sys.argv[2:]
if kind == ["warc"]:
    main(ingest_warc, IngestWarcConfig, arguments)
elif kind == ["files"]:
    main(ingest_files, IngestFilesConfig, arguments)
else:
    print(f"{__doc__}\nSay warc or files first; `warc --help` and `files --help` tell more.")
    raise SystemExit(0 if kind and kind[0] in ("-h", "--help") else 2)
