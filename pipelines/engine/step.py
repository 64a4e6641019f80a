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
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from components.context import Json, Metrics
from components.errors import ConfigError
from pipelines.engine.identity import canonical_json, content_digest, identity_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

StepFunction: TypeAlias = Callable[..., Metrics]
CodePolicy: TypeAlias = Literal["rerun", "warn", "fail"]

OVER = "over"
"""Name of the input that lists the items of a step that is spread over them."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Resources:
    """What a step needs before it may start.

    Attributes:
        cpus: CPU cores of the step; of each rank where `ranks` is above 1.
        gpus: GPUs of the step; of each rank where `ranks` is above 1.
        memory_gib: Memory to reserve in GiB; None reserves nothing.
        ranks: Processes its `ctx.launch` starts. Above 1 the step itself holds no CPU, so that its ranks fit.
        min_ranks: How few it may start where machines are missing; 0 is all of them.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float | None = None
    ranks: int = 1
    min_ranks: int = 0

    @property
    def fewest(self) -> int:
        """Ranks that there must be room for."""
        return self.min_ranks or max(1, self.ranks)

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
class FanOut:
    """How a step is spread over items: one child artifact per item, and a step's output that gathers them.

    Attributes:
        over: Input whose folder lists the items in `items.jsonl`; empty where they are known at plan time.
        items: The items known at plan time, as JSON values.
        min_success: Share of the items that must succeed; the others are left out of the output and named in it.
    """

    over: str = ""
    items: tuple[Json, ...] = ()
    min_success: float = 1.0


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
            "fail": a code change refuses the plan until it is accepted.
        detached: It runs in an actor that outlives the driver, and is taken up again by the next one.
        fan_out: Set where it is spread over items.
    """

    name: str
    fn: StepFunction
    config: DataclassInstance
    version: int
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    resources: Resources = Resources()
    code: CodePolicy = "rerun"
    detached: bool = False
    fan_out: FanOut | None = None

    @property
    def identity(self) -> dict[str, Json]:
        """What of its settings counts: the identity fields of the config, and how it is spread over items.

        Raises:
            ConfigError: If a value has no identity.
        """
        fields = identity_of(self.config)
        if self.fan_out is None:
            return fields
        spread: dict[str, Json] = {
            "over": self.fan_out.over,
            "items": list(self.fan_out.items),
            "min_success": self.fan_out.min_success,
        }
        return {**fields, "fan_out": spread}

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
        min_ranks: int = 0,
        code: CodePolicy = "rerun",
        detached: bool = False,
        **inputs: Artifact | None,
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
            min_ranks: How few it may start where machines are missing; 0 is all of them.
            code: What a change of its code does, see `Step.code`.
            detached: Let it outlive the driver: for steps that run long.
            **inputs: Artifacts by the function's parameter names; None leaves an input out.

        Raises:
            ConfigError: If the name is taken or unusable, the function is no module-level one, or the inputs are not
                those its signature asks for.
        """
        resources = Resources(cpus, gpus, memory_gib, ranks, min_ranks)
        given = {key: artifact for key, artifact in inputs.items() if artifact is not None}
        return self._add(fn, config, name, given, resources, code, detached, None)

    def map(
        self,
        fn: StepFunction,
        config: DataclassInstance,
        *,
        over: Artifact | Sequence[Json],
        name: str | None = None,
        min_success: float = 1.0,
        code: CodePolicy = "rerun",
        **inputs: Artifact,
    ) -> Artifact:
        """Adds a step that is spread over items, each of which is cached by itself; returns the handle of its output.

        The function is called as `fn(ctx, config, item, **inputs)` once for each item and writes into its own
        `ctx.output`. The output of the whole is a folder per item, named by the first 16 characters of the item's
        digest, and `items.jsonl` with a line for each: {"item", "digest", "state": "done" or "failed", "error"}.
        When it runs again, only items that are new, changed or failed do.

        Args:
            fn: The function.
            config: Its config.
            over: The items: JSON values known now, or a step's output that lists them in `items.jsonl`, one a line.
            name: Name of the step; the function's own name if None.
            min_success: Share of the items that must succeed, from 0 to 1.
            code: What a change of its code does, see `Step.code`.
            **inputs: Artifacts by the function's parameter names; every item reads them.

        Raises:
            ConfigError: As `step`, or if there are no items, or two that are equal.
        """
        label = name or fn.__name__
        where = f"step {label} of recipe {self.name}"
        if not 0 <= min_success <= 1:
            raise ConfigError(f"min_success is {min_success}.", where, "give a share between 0 and 1")
        if isinstance(over, Artifact):
            return self._add(
                fn, config, name, {OVER: over, **inputs}, Resources(), code, False, FanOut(OVER, (), min_success)
            )
        digests = [canonical_json(item) for item in over]
        if not digests:
            raise ConfigError(f"{label} is spread over no items.", where, "pass at least one")
        if len(set(digests)) < len(digests):
            raise ConfigError(f"Two items of {label} are equal.", where, "pass each item once")
        return self._add(fn, config, name, inputs, Resources(), code, False, FanOut("", tuple(over), min_success))

    def _add(
        self,
        fn: StepFunction,
        config: DataclassInstance,
        name: str | None,
        inputs: Mapping[str, Artifact],
        resources: Resources,
        code: CodePolicy,
        detached: bool,
        fan_out: FanOut | None,
    ) -> Artifact:
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
        _check_inputs(fn, {key: value for key, value in inputs.items() if key != OVER}, where, 3 if fan_out else 2)
        version = _version_of(fn, where)
        self._steps[label] = Step(label, fn, config, version, inputs, resources, code, detached, fan_out)
        return Artifact(label)

    def file(self, path: str | Path, what: str) -> Artifact:
        """Takes a file or folder as an input, identified by its content.

        A folder that is an artifact of a store need not be read for that: its manifest tells.

        Args:
            path: Where it lies now. The path never enters a key.
            what: What it is, in a word: "tokenizer".

        Raises:
            ConfigError: If nothing lies there.
        """
        resolved = Path(path).expanduser().resolve()
        if not resolved.exists():
            raise ConfigError(f"There is no {what} at {path}.", f"recipe {self.name}", f"check the path of the {what}")
        return Artifact(what, resolved, _recorded_digest(resolved) or content_digest(resolved))


def _recorded_digest(path: Path) -> str:
    """The digest in the manifest beside a folder, where it is an artifact; else empty."""
    manifest = path.with_name(f"{path.name}.json")
    if not path.is_dir() or not manifest.is_file():
        return ""
    content = json.loads(manifest.read_text(encoding="utf-8")).get("content", "")
    return str(content)


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


def _check_inputs(fn: StepFunction, inputs: Mapping[str, Artifact], where: str, num_given: int) -> None:
    parameters = list(inspect.signature(fn).parameters.values())[num_given:]
    known = [parameter.name for parameter in parameters]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    for name, artifact in inputs.items():
        if name not in known and not takes_any:
            near = difflib.get_close_matches(name, known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'no input'}"
            raise ConfigError(f"{fn.__name__} has no input named {name}.", where, fix)
        if not isinstance(artifact, Artifact):
            raise ConfigError(f"Input {name} is a {type(artifact).__name__}.", where, "pass what run.step returned")
    for parameter in parameters:
        needed = parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        if needed and parameter.name not in inputs:
            raise ConfigError(f"{fn.__name__} misses its input {parameter.name}.", where, f"pass {parameter.name}=...")


def _version_of(fn: StepFunction, where: str) -> int:
    if "<" in fn.__qualname__:
        raise ConfigError(f"{fn.__qualname__} is not at the top of a module.", where, "move the function there")
    version = getattr(sys.modules[fn.__module__], "VERSION", None)
    if not isinstance(version, int) or isinstance(version, bool):
        raise ConfigError(f"Module {fn.__module__} has no VERSION.", where, "write VERSION = 1 in it")
    return version
