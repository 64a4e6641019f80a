"""The import rule and the shape of the house, read from the source files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {"ray", "mlflow", "hydra", "omegaconf", "pipelines"}
HEAVY = {"torch", "pyarrow", "numpy", "transformers", "deepspeed", "ray", "mlflow", "httpx", "tokenizers"}
SOURCES = sorted([*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")])


def imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_components_import_no_orchestrator_at_any_depth() -> None:
    offenders = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in ROOT.glob("components/**/*.py")
        for module in imports(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        if module in FORBIDDEN
    ]
    assert offenders == []


@pytest.mark.parametrize("name", ["step.py", "config.py"])
def test_what_a_plan_imports_is_light(name: str) -> None:
    paths = [*ROOT.glob(f"components/*/{name}"), ROOT / "pipelines/cli.py", ROOT / "pipelines/config.py"]
    offenders = [
        f"{path.relative_to(ROOT)} imports {module} at its top"
        for path in paths
        for module in imports(iter(ast.parse(path.read_text(encoding="utf-8")).body))
        if module in HEAVY
    ]
    assert offenders == []


def test_every_module_tells_its_story() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []


def test_no_file_passes_six_hundred_lines_and_no_function_eighty() -> None:
    long = [str(path.relative_to(ROOT)) for path in SOURCES if path.read_text("utf-8").count("\n") > 600]
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > 80:
                    long.append(f"{path.relative_to(ROOT)}:{node.name} {size}")
    assert long == []


def test_the_formats_hold_no_pickle() -> None:
    offenders = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if {"pickle", "cloudpickle", "dill", "joblib"} & set(imports(ast.walk(ast.parse(path.read_text("utf-8")))))
    ]
    assert offenders == []
