"""The code digest follows what a step runs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_steps

from components.errors import ConfigError
from pipelines.engine.code_digest import CodeDigest, Sources, code_digest, module_closure

RULES = "LIMIT = 100\n\n\ndef keep(text):\n    return len(text) > LIMIT\n"


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., CodeDigest]:
    """Makes a package of three modules, imports its step by a fresh name and digests it."""
    count = 0

    def make(rules: str = RULES, unused: str = "x = 1\n") -> CodeDigest:
        nonlocal count
        count += 1
        root = tmp_path / str(count)
        folder = root / "toypackage"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text('"""A package."""\n')
        (folder / "rules.py").write_text(rules)
        (folder / "unused.py").write_text(unused)
        (folder / "step.py").write_text(
            "VERSION = 1\n\n\ndef step(ctx, config):\n    from .rules import keep\n    keep('')\n"
        )
        monkeypatch.syspath_prepend(str(root))
        for name in [name for name in sys.modules if name.partition(".")[0] == "toypackage"]:
            monkeypatch.delitem(sys.modules, name)
        import importlib

        return code_digest(importlib.import_module("toypackage.step").step, Sources())

    return make


def test_an_import_inside_a_function_is_followed(package: Callable[..., CodeDigest]):
    assert set(package().files) == {"toypackage/__init__.py", "toypackage/rules.py", "toypackage/step.py"}


@pytest.mark.parametrize(
    "rules",
    [
        RULES + "\n# a comment\n",
        '"""A story."""\n\n' + RULES,
        RULES.replace("    return", '    """Tells."""\n    return'),
        RULES.replace("\n\n\n", "\n"),
        RULES.replace("len(text) > LIMIT", "(len(text)  >  LIMIT)"),
    ],
)
def test_comments_docstrings_and_layout_never_count(package: Callable[..., CodeDigest], rules: str):
    assert package(rules).digest == package().digest


@pytest.mark.parametrize("rules", [RULES.replace("100", "101"), RULES.replace(">", ">="), RULES + "EXTRA = 1\n"])
def test_a_change_of_code_counts_and_names_its_file(package: Callable[..., CodeDigest], rules: str):
    before, after = package(), package(rules)
    assert after.digest != before.digest
    assert after.changed(before.files) == ["toypackage/rules.py"]


def test_a_module_that_is_not_imported_never_counts(package: Callable[..., CodeDigest]):
    assert package(unused="x = 2\n").digest == package().digest


def test_a_syntax_error_is_told_with_file_and_line(package: Callable[..., CodeDigest]):
    with pytest.raises(ConfigError, match=r"rules\.py does not parse") as caught:
        package("def (:\n")
    assert caught.value.where.endswith("rules.py:1")


def test_first_party_imports_of_a_step_are_in_its_digest():
    files = code_digest(toy_steps.source, Sources()).files
    assert {"toy_steps.py", "components/context.py", "components/publish.py", "components/launching.py"} <= set(files)


def test_files_are_named_from_the_source_root():
    closure = module_closure("components.context", Path("/nowhere"), Sources())
    assert "components.channel" in closure
    assert not any(name.startswith(("pipelines", "ray", "torch")) for name in closure)


def test_digesting_imports_no_module_of_the_closure():
    program = (
        "import sys, toy_steps\n"
        "from pipelines.engine.code_digest import Sources, code_digest\n"
        "files = code_digest(toy_steps.source, Sources()).files\n"
        "assert 'components/launching.py' in files\n"
        "assert 'components.launching' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_was_read_is_kept_and_a_damaged_record_is_read_again(tmp_path: Path):
    kept = tmp_path / "sources.json"
    first = Sources(kept)
    digest = code_digest(toy_steps.source, first)
    first.keep()
    text = kept.read_text()
    assert code_digest(toy_steps.source, Sources(kept)) == digest
    for damage in ("", "[]", "{", '{"a": 1}', '{"a": null}'):
        kept.write_text(damage)
        again = Sources(kept)
        assert code_digest(toy_steps.source, again) == digest
        again.keep()
        assert kept.read_text() == text


def test_a_kept_reading_never_outlives_its_source(tmp_path: Path):
    kept = tmp_path / "sources.json"
    (tmp_path / "rules.py").write_text(RULES)
    sources = Sources(kept)
    before = sources.read(tmp_path / "rules.py", "rules")
    sources.keep()
    (tmp_path / "rules.py").write_text(RULES.replace("100", "101"))
    assert Sources(kept).read(tmp_path / "rules.py", "rules") != before
