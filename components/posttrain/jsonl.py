"""Reading people's own dialogue files: JSON lines, checked row by row, refused by file and line number.

One bad row stops the step: a dialogue with a missing side is as likely a sign of a broken export as a slip, and a model
trained on what was left would not say so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.errors import StepError
from components.posttrain.dialogues import Messages
from components.tokenizer.special import ROLE_IDS


@dataclass(frozen=True)
class Line:
    """One row of a file.

    Attributes:
        path: The file.
        number: Line number, from 1.
        row: The JSON object in it.
    """

    path: Path
    number: int
    row: Mapping[str, object]

    def text(self, key: str) -> str:
        """The text under a key; raises `StepError` unless it is one with more than white space."""
        if key not in self.row:
            raise self.error(f'"{key}" is missing', f'add "{key}": "..." to the line, or remove the line')
        return self._checked(self.row[key], f'"{key}"')

    def number_of(self, key: str, default: float) -> float:
        """The number under a key, or the default where there is none."""
        value = self.row.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(f'"{key}" is {value!r}, not a finite number', f'give "{key}" a number, or leave it out')
        return float(value)

    def messages(self, key: str, last_role: str) -> Messages:
        """The messages under a key, the last one by `last_role`; raises `StepError` where they are not."""
        value = self.row.get(key)
        if not isinstance(value, list) or not value:
            raise self.error(f'"{key}" is missing or no list of messages', f'write {{"{key}": [{_EXAMPLE}, ...]}}')
        messages = tuple(self._message(message, number) for number, message in enumerate(value, 1))
        if messages[-1]["role"] != last_role:
            fix = f"end it with a message of the {last_role}"
            raise self.error(f'"{key}" ends with the {messages[-1]["role"]}, not the {last_role}', fix)
        return messages

    def error(self, what: str, fix: str) -> StepError:
        """The error that names this line."""
        return StepError(f"A row cannot be used: {what}.", where=f"{self.path}, line {self.number}", fix=fix)

    def _message(self, message: object, number: int) -> dict[str, str]:
        if not isinstance(message, Mapping):
            raise self.error(f"message {number} is no object", f"write it as {_EXAMPLE}")
        role = message.get("role")
        if role not in ROLE_IDS:
            roles = ", ".join(ROLE_IDS)
            raise self.error(f"message {number} has the role {role!r}, none of {roles}", f"write it as {_EXAMPLE}")
        return {"role": str(role), "content": self._checked(message.get("content"), f'"content" of message {number}')}

    def _checked(self, value: object, name: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{name} is empty or no text", "fill it in, or remove the line")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(f"{name} holds half a surrogate pair", "export it as UTF-8 again") from None
        return value


_EXAMPLE = '{"role": "user", "content": "..."}'


def read_lines(path: Path) -> Iterator[Line]:
    """Reads a file of JSON objects, one a line; empty lines are passed over.

    Raises:
        StepError: If the file is not there, or at the first line that is not UTF-8 text or no JSON object.
    """
    if not path.is_file():
        raise StepError("There is no such file.", where=str(path), fix="check the path")
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                yield Line(path, number, _parse(path, number, raw))


def _parse(path: Path, number: int, raw: bytes) -> Mapping[str, object]:
    where = f"{path}, line {number}"
    try:
        row = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise StepError("A line is not UTF-8 text.", where=where, fix="save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        fix = "write one JSON object a line (JSON lines), not one for the whole file"
        raise StepError(f"A line is not JSON: {error}.", where=where, fix=fix) from error
    if not isinstance(row, dict):
        raise StepError("A line is JSON but no object.", where=where, fix="write one JSON object a line")
    return row
