"""Two finished runs of the recipe that differ in one setting; made once, and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from store_help import pretend_run

from pipelines.cli import main

Headwater = Callable[..., str]


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("verbs") / "store"
    pretend_run("amber-1", f"store={store}", "preset=micro")
    pretend_run("birch-2", f"store={store}", "preset=micro", "clean.min_chars=200", text="other", seconds=2.0)
    return store


@pytest.fixture
def store(two_runs: Path, tmp_path: Path) -> Path:
    """A copy of the two runs that a test may change."""
    shutil.copytree(two_runs, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def headwater(store: Path, capsys: pytest.CaptureFixture[str]) -> Headwater:
    """Runs a verb on the copy and returns what it printed; it must succeed unless another exit code is given."""

    def call(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        got = main([*words, f"store={store}", "preset=micro"])
        printed = capsys.readouterr()
        assert got == code, printed.err
        return printed.out if code == 0 else printed.out + printed.err

    return call


def record_of(store: Path, step: str) -> Path:
    """The newest manifest of a step."""
    return max((store / "artifacts" / step).glob("*/*.json"), key=lambda path: path.stat().st_mtime)


def change_code(store: Path, step: str) -> None:
    """Makes the store remember other code for all artifacts of a step, as if a source had changed since."""
    for record in (store / "artifacts" / step).glob("*/*.json"):
        lines = record.read_text().splitlines()
        for number, line in enumerate(lines):
            if '"code_digest"' in line:
                lines[number] = f' "code_digest": "{"1" * 64}",'
            elif '"components/model/transformer.py"' in line:
                lines[number] = f'  "components/model/transformer.py": "{"0" * 16}",'
        record.write_text("\n".join(lines))
