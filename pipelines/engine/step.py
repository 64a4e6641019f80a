"""What a recipe is made of: steps, the artifacts between them, and the resources each step asks for.

A recipe is built at run time by calling `Recipe.step` with plain functions, typed configs and the artifacts of earlier
steps, so the Python text reads like the graph. Nothing runs here and nothing is read but external files, whose content
digest stands in for a recipe key. Inputs refer to their producer by name: a handle stays valid across processes, and
`ordered` can check any list of steps, however it was made.
"""

from __future__ import annotations

import difflib
import graphlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from components.context import Metrics
from components.errors import ConfigError
from pipelines.engine.identity import content_digest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

StepFunction: TypeAlias = Callable[..., Metrics]
CodePolicy: TypeAlias = Literal["rerun", "warn"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Resources:
    """What a step needs before it may start.

    Attributes:
        cpus: CPU cores of the step; of each rank where `ranks` is above 1.
        gpus: GPUs of the step; of each rank where `ranks` is above 1.
        memory_gib: Memory to reserve in GiB; None reserves nothing.
        ranks: Processes its `ctx.launch` starts. Above 1 the step itself holds no CPU, so that its ranks fit.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float | None = None
    ranks: int = 1

    @property
    def total_cpus(self) -> float:
        """Cores that must be free at the same time."""
        return self.cpus * max(1, self.ranks)

    @property
    def total_gpus(self) -> float:
        """GPUs that must be free at the same time."""
        return self.gpus * max(1, self.ranks)


@dataclass(frozen=True)
class Artifact:
    """Handle of a step's output folder, or of an external file or folder.

    Attributes:
        name: The producing step, or what the external file is.
        path: Where the external file lies; None for a step's output.
        digest: Content digest of the external file; empty for a step's output.
    """

    name: str
    path: Path | None = None
    digest: str = ""


@dataclass(frozen=True)
class Step:
    """One node of the graph.

    Attributes:
        name: Unique in the recipe; folder name in the store and prefix of its metrics.
        fn: Module-level function `fn(ctx, config, **inputs) -> Metrics`.
        config: Its frozen config dataclass.
        version: `VERSION` of the function's module; raise it to invalidate what older code made.
        inputs: Input artifacts by parameter name.
        resources: What it needs to start.
        code: "rerun": its code digest is part of the key. "warn": a code change is shown but keeps the artifact.
    """

    name: str
    fn: StepFunction
    config: DataclassInstance
    version: int
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    resources: Resources = Resources()
    code: CodePolicy = "rerun"

    @property
    def producers(self) -> tuple[str, ...]:
        """Names of the steps whose outputs it reads, in the order of its inputs."""
        return tuple(artifact.name for artifact in self.inputs.values() if artifact.path is None)


class Recipe:
    """Collects the steps of one DAG.

    Args:
        name: Name of the recipe, such as "chat".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._steps: dict[str, Step] = {}

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in the order they were declared."""
        return tuple(self._steps.values())

    def step(
        self,
        fn: StepFunction,
        config: DataclassInstance,
        *,
        name: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        memory_gib: float | None = None,
        ranks: int = 1,
        code: CodePolicy = "rerun",
        **inputs: Artifact,
    ) -> Artifact:
        """Adds a step and returns the handle of its output.

        Args:
            fn: The step function.
            config: Its config.
            name: Name of the step; the function's own name if None.
            cpus: Cores of the step, or of each rank.
            gpus: GPUs of the step, or of each rank.
            memory_gib: Memory to reserve in GiB.
            ranks: Processes its `ctx.launch` starts.
            code: What a change of its code does, see `Step.code`.
            **inputs: Artifacts by the function's parameter names.

        Raises:
            ConfigError: If the name is taken or unusable, the function is no module-level one, or the inputs are not
                those its signature asks for.
        """
        label = name or fn.__name__
        where = f"step {label} of recipe {self.name}"
        if not _NAME.fullmatch(label):
            raise ConfigError(f'"{label}" is no step name.', where, "use lower-case letters, digits and _")
        if label in self._steps:
            raise ConfigError(f"Two steps are named {label}.", where, 'pass name="..." to one of them')
        if not is_dataclass(config):
            raise ConfigError(
                f"The config of {label} is a {type(config).__name__}.", where, "pass its config dataclass"
            )
        _check_inputs(fn, inputs, where)
        resources = Resources(cpus, gpus, memory_gib, ranks)
        self._steps[label] = Step(label, fn, config, _version_of(fn, where), inputs, resources, code)
        return Artifact(label)

    def file(self, path: str | Path, what: str) -> Artifact:
        """Takes a file or folder from outside the store as an input, identified by its content.

        Args:
            path: Where it lies now. The path never enters a key.
            what: What it is, in a word: "tokenizer".

        Raises:
            ConfigError: If nothing lies there.
        """
        resolved = Path(path).expanduser().resolve()
        if not resolved.exists():
            raise ConfigError(f"There is no {what} at {path}.", f"recipe {self.name}", f"check the path of the {what}")
        return Artifact(what, resolved, content_digest(resolved))


def ordered(steps: Iterable[Step]) -> list[Step]:
    """Sorts steps so that producers come before their readers; otherwise as declared.

    Raises:
        ConfigError: On two steps with one name, an input no step makes, or a cycle.
    """
    by_name: dict[str, Step] = {}
    for step in steps:
        if step.name in by_name:
            raise ConfigError(f"Two steps are named {step.name}.", "recipe", 'pass name="..." to one of them')
        by_name[step.name] = step
    for step in by_name.values():
        for name, artifact in step.inputs.items():
            if artifact.path is None and artifact.name not in by_name:
                raise ConfigError(
                    f"Input {name} of {step.name} comes from {artifact.name}, which is no step of this recipe.",
                    f"step {step.name}",
                    f"add the step {artifact.name} or pass another artifact",
                )
    sorter = graphlib.TopologicalSorter({step.name: step.producers for step in by_name.values()})
    try:
        return [by_name[name] for name in sorter.static_order()]
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise ConfigError(f"The steps form a circle: {circle}.", "recipe", "remove one of these inputs") from None


def _check_inputs(fn: StepFunction, inputs: Mapping[str, Artifact], where: str) -> None:
    parameters = list(inspect.signature(fn).parameters.values())[2:]
    known = [parameter.name for parameter in parameters]
    for name, artifact in inputs.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'no input'}"
            raise ConfigError(f"{fn.__name__} has no input named {name}.", where, fix)
        if not isinstance(artifact, Artifact):
            raise ConfigError(f"Input {name} is a {type(artifact).__name__}.", where, "pass what run.step returned")
    for parameter in parameters:
        if parameter.default is inspect.Parameter.empty and parameter.name not in inputs:
            raise ConfigError(f"{fn.__name__} misses its input {parameter.name}.", where, f"pass {parameter.name}=...")


def _version_of(fn: StepFunction, where: str) -> int:
    if "<" in fn.__qualname__:
        raise ConfigError(f"{fn.__qualname__} is not at the top of a module.", where, "move the function there")
    version = getattr(sys.modules[fn.__module__], "VERSION", None)
    if not isinstance(version, int) or isinstance(version, bool):
        raise ConfigError(f"Module {fn.__module__} has no VERSION.", where, "write VERSION = 1 in it")
    return version
