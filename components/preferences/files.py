"""Pairs out of a file: JSON lines of `{"prompt": text or messages, "chosen": text, "rejected": text}`.

A prompt with all its pairs is either for training or held out, so the reward model is judged, and PPO compared, on
prompts that it never saw.
"""

from __future__ import annotations

from pathlib import Path

from components.errors import StepError
from components.instructions.files import content_id, guess_lang, held_out_ids
from components.posttrain.dialogues import Messages, Preference, Prompt, user_says
from components.posttrain.jsonl import Line, read_lines
from components.preferences.dataset import Dataset

_LEAST_PROMPTS = 2


def file_dataset(path: Path, fraction: float) -> tuple[Dataset, int]:
    """Reads the pairs of a file; the prompts for PPO are theirs.

    Args:
        path: The file. "margin" (0 to 1, by default 1), "lang" and "source" are read where they are given.
        fraction: Share of the prompts to hold out; at least one.

    Returns:
        The pairs and prompts, and the number of repeated pairs that were left out.

    Raises:
        StepError: At the first row that cannot be used, with file, line and side; or with fewer than two prompts.
    """
    rows = [_pair(line) for line in read_lines(path)]
    pairs = {pair.id: pair for pair in rows}
    prompts = {_prompt_id(pair): pair for pair in pairs.values()}
    if len(prompts) < _LEAST_PROMPTS:
        raise StepError(
            f"The file has pairs for {len(prompts)} different prompts; one to train on, one to hold out are the least.",
            where=str(path),
            fix="add pairs for other prompts",
        )
    held = held_out_ids(prompts, fraction)
    asked = [Prompt(identity, pair.lang, pair.source, pair.prompt) for identity, pair in prompts.items()]
    dataset = Dataset(
        [pair for pair in pairs.values() if _prompt_id(pair) not in held],
        [pair for pair in pairs.values() if _prompt_id(pair) in held],
        [prompt for prompt in asked if prompt.id not in held],
        [prompt for prompt in asked if prompt.id in held],
    )
    return dataset, len(rows) - len(pairs)


def _pair(line: Line) -> Preference:
    prompt = _prompt(line)
    chosen, rejected = line.text("chosen"), line.text("rejected")
    if chosen == rejected:
        raise line.error('"chosen" and "rejected" are the same text', "remove the line: it prefers nothing")
    margin = line.number_of("margin", 1.0)
    if not 0 <= margin <= 1:
        raise line.error(f'"margin" is {margin}', "give it as a share of the scale, 0 to 1")
    lang = line.text("lang") if "lang" in line.row else guess_lang(prompt)
    source = line.text("source") if "source" in line.row else line.path.stem
    return Preference(content_id([prompt, chosen, rejected]), lang, source, prompt, chosen, rejected, margin)


def _prompt(line: Line) -> Messages:
    return (
        line.messages("prompt", "user") if isinstance(line.row.get("prompt"), list) else user_says(line.text("prompt"))
    )


def _prompt_id(pair: Preference) -> str:
    return content_id(pair.prompt)
