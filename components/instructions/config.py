"""Settings of the instructions step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require


@dataclass(frozen=True)
class InstructionsConfig:
    """Which conversations to imitate. All but the last field belong to the sample; a file is taken as it is.

    Attributes:
        max_turns: Longest window of a conversation, in turns of both speakers.
        max_turn_chars: A window ends before a turn longer than this.
        windows_per_conversation: At most so many windows of one conversation, from its beginning on.
        min_rating: Conversations that people rated lower are left out; unrated ones stay.
        max_review_chars: Longest review.
        max_per_source: At most so many training examples of each source: chitchat, chatterbot, reviews.
        held_out_fraction: Share of a file's rows to hold out, by the hash of the row. The sample has its own.
    """

    max_turns: int = 6
    max_turn_chars: int = 200
    windows_per_conversation: int = 3
    min_rating: float = 5.0
    max_review_chars: int = 60
    max_per_source: int = 6000
    held_out_fraction: float = 0.05

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            require(
                value >= least, f"instructions.{name}", value, f"must be at least {least}", f"it to {least} or more"
            )
        fraction = self.held_out_fraction
        rule, fix = "must lie between 0 and 1", "instructions.held_out_fraction=0.05"
        require(0 < fraction < 1, "instructions.held_out_fraction", fraction, rule, fix)


_LEAST = {
    "max_turns": 2,
    "max_turn_chars": 20,
    "windows_per_conversation": 1,
    "max_review_chars": 20,
    "max_per_source": 1,
}
