"""Writes a Metaflow flow of a shape: `python metaflow_flow.py SHAPE FILE`. Metaflow reads the graph from source text.

Its first and last steps must be called `start` and `end`, and a step that reads two others takes an argument.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from shapes import SHAPES


def source_of(dag: Mapping[str, Sequence[str]]) -> str:
    """The flow as Python text."""
    names = list(dag)
    called = {names[0]: "start", names[-1]: "end"}
    lines = ["from metaflow import FlowSpec, step", "", "class Bench(FlowSpec):"]
    for name, sources in dag.items():
        readers = [f"self.{called.get(reader, reader)}" for reader, given in dag.items() if name in given]
        arguments = "self, inputs" if len(sources) > 1 else "self"
        body = f"self.next({', '.join(readers)})" if readers else "pass"
        lines += ["    @step", f"    def {called.get(name, name)}({arguments}):", f"        {body}", ""]
    return "\n".join([*lines, 'if __name__ == "__main__":', "    Bench()", ""])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(source_of(SHAPES[sys.argv[1]]))
