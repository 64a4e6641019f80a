"""The loopback server and its misbehaviour."""

import http.client
import json
import threading
from pathlib import Path

import pytest

from components.sample.server import Hit, serve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "www/deep").mkdir(parents=True)
    (tmp_path / "www/index.html").write_text("front")
    (tmp_path / "www/deep/index.html").write_text("deep")
    behaviours = {
        "/gone": {"status": 301, "headers": {"Location": "/deep/"}},
        "/deep/": {"headers": {"ETag": '"1"'}},
        "/busy": {"status": 503, "times": 2},
        "/slow": {"delay_s": 30.0},
    }
    (tmp_path / "behaviours.json").write_text(json.dumps(behaviours))
    (tmp_path / "secret.html").write_text("outside")
    return tmp_path


def _get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def test_a_folder_is_its_index_page(folder: Path):
    with serve(folder) as port:
        assert _get(port, "/")[2] == b"front"
        assert _get(port, "/deep/?page=2")[2] == b"deep"


@pytest.mark.parametrize("path", ["/nothing", "/../secret.html", "/%2e%2e/secret.html", "/deep"])
def test_what_is_not_below_www_is_not_found(folder: Path, path: str):
    with serve(folder) as port:
        assert _get(port, path)[0] == 404


def test_behaviours_set_status_and_headers(folder: Path):
    with serve(folder) as port:
        status, headers, _ = _get(port, "/gone")
        assert (status, headers["Location"]) == (301, "/deep/")


def test_a_behaviour_may_hold_for_the_first_requests_only(folder: Path):
    with serve(folder) as port:
        assert [_get(port, "/busy")[0] for _ in range(4)] == [503, 503, 404, 404]


def test_a_known_etag_is_answered_without_a_body(folder: Path):
    with serve(folder) as port:
        etag = _get(port, "/deep/")[1]["ETag"]
        assert _get(port, "/deep/", {"If-None-Match": etag})[::2] == (304, b"")
        assert _get(port, "/deep/", {"If-None-Match": '"2"'})[0] == 200


def test_a_slow_page_holds_up_nobody_else_nor_the_end(folder: Path):
    log: list[Hit] = []
    with serve(folder, log) as port:
        waiting = threading.Thread(target=_get, args=(port, "/slow"), daemon=True)
        waiting.start()
        assert _get(port, "/")[0] == 200
        assert [hit.path for hit in log] == ["/"]
    waiting.join(timeout=20)
    assert not waiting.is_alive()


def test_the_log_has_path_and_agent(folder: Path):
    log: list[Hit] = []
    with serve(folder, log) as port:
        _get(port, "/deep/?x=1", {"User-Agent": "someone"})
    assert [(hit.path, hit.status, hit.agent) for hit in log] == [("/deep/?x=1", 200, "someone")]
