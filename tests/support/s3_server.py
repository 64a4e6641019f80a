"""A real HTTP server that speaks S3 (moto's), for tests: one for the whole session, a bucket of its own for each."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator

import pytest

BUCKET = "headwater-tests"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of a bucket; child processes reach it too, through the environment.

    One request at a time: moto looks for an object and creates it in two steps, which real servers do in one.
    """
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Prints nothing."""

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), request_handler=Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
    server.shutdown()


@pytest.fixture
def s3_url(s3_server: str) -> str:
    """A prefix that no other test uses."""
    return f"{s3_server}/{uuid.uuid4().hex}"
