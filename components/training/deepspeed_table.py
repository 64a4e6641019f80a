"""The table `training.deepspeed`: settings of DeepSpeed beyond those that follow from the training config.

A table and not a file of DeepSpeed's, so that nothing is said in two places: a name that another setting decides is
refused, with that setting's name, when the configuration is composed. So is a section that DeepSpeed would not read:
it passes over names at the top that it does not know. Text becomes a value the way JSON reads it, or stays text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import TypeAlias

from components.configuring import require

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

KEY = "training.deepspeed"
SECTIONS = ("zero_optimization", "aio", "wall_clock_breakdown", "memory_breakdown")
DERIVED = {
    "train_micro_batch_size_per_gpu": "training.micro_batch",
    "gradient_accumulation_steps": "training.micro_batch",
    "train_batch_size": "training.batch_size",
    "gradient_clipping": "training.clip_grad",
    "optimizer": "training.optimizer",
    "scheduler": "training.schedule",
    "bf16": "training.precision",
    "fp16": "training.precision",
    "amp": "training.precision",
    "torch_autocast": "training.precision",
    "data_types": "training.precision",
    "activation_checkpointing": "training.recompute",
    "compile": "training.compile",
    "tensor_parallel": "training.tensor_parallel",
    "sequence_parallel_size": "training.sequence_parallel",
    "zero_optimization.stage": "training.zero_stage",
    "zero_optimization.offload_optimizer": "training.offload",
    "zero_optimization.offload_param": "training.offload",
    "zero_optimization.cpu_offload": "training.offload",
}


def check_table(table: Mapping[str, str], engine: str) -> None:
    """Refuses entries that contradict the training config or that DeepSpeed would not read.

    Raises:
        ConfigError: With the name of the entry.
    """
    for name, text in table.items():
        key = f"{KEY}.{name}"
        decided = next((by for derived, by in DERIVED.items() if _inside(name, derived)), "")
        require(not decided, key, text, f"follows from {decided}", f"{decided or KEY} and leave {name} out")
        known = name.partition(".")[0] in SECTIONS and name != "zero_optimization"
        require(
            known, key, text, f"is in none of the sections {', '.join(SECTIONS)}", f"no such entry: leave {name} out"
        )
        require(engine == "deepspeed", key, text, "needs training.engine=deepspeed", "training.engine=deepspeed")


def merged(settings: Mapping[str, Value], table: Mapping[str, str]) -> dict[str, Value]:
    """The settings with the entries of a table put in at their dotted names."""
    result = copy.deepcopy(dict(settings))
    for name, text in table.items():
        *groups, last = name.split(".")
        place = result
        for group in groups:
            inner = place.setdefault(group, {})
            require(
                isinstance(inner, dict), f"{KEY}.{name}", text, f"lies inside {group}, a plain value", "another name"
            )
            assert isinstance(inner, dict)
            place = inner
        place[last] = read_value(text)
    return result


def read_value(text: str) -> Value:
    """A text as JSON reads it, or itself where it is no JSON."""
    try:
        value: Value = json.loads(text)
    except ValueError:
        return text
    return value


def _inside(name: str, derived: str) -> bool:
    return name == derived or name.startswith(f"{derived}.")
