"""Settings of the preferences step."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require

LOWEST_RATING, HIGHEST_RATING = 1.0, 10.0


@dataclass(frozen=True)
class PreferencesConfig:
    """Which pairs and prompts to take. All but the last field belong to the sample; a file is taken as it is.

    Attributes:
        high_rating: A conversation rated at least so is preferred (the scale is 1 to 10) ...
        low_rating: ... to one rated below this. 5 is what the form shows before anybody touches it, and four of ten
            ratings are exactly 5: they say nothing, hence below 5.
        max_review_chars: Longest review.
        max_reply_chars: Longest turn of a conversation.
        max_pairs_per_source: At most so many training pairs of each source: chitchat, reviews.
        num_openers: English prompts for PPO, topic questions included; a third as many are held out.
        held_out_fraction: Share of a file's prompts to hold out, by hash. The sample has its own.
    """

    high_rating: float = 8.0
    low_rating: float = 5.0
    max_review_chars: int = 60
    max_reply_chars: int = 200
    max_pairs_per_source: int = 4000
    num_openers: int = 108
    held_out_fraction: float = 0.05

    def __post_init__(self) -> None:
        for name, least in (("max_review_chars", 20), ("max_reply_chars", 20), ("max_pairs_per_source", 1)):
            value = getattr(self, name)
            require(value >= least, f"preferences.{name}", value, f"must be at least {least}", f"it to {least} or more")
        for name in ("high_rating", "low_rating"):
            value, rule = getattr(self, name), "must lie between 1 and 10"
            fits = LOWEST_RATING <= value <= HIGHEST_RATING
            require(fits, f"preferences.{name}", value, rule, "preferences.low_rating=5 preferences.high_rating=8")
        rule, fix = f"must exceed low_rating={self.low_rating}", "preferences.high_rating=8"
        require(self.high_rating > self.low_rating, "preferences.high_rating", self.high_rating, rule, fix)
        require(self.num_openers >= 3, "preferences.num_openers", self.num_openers, "must be at least 3", "it to 108")
        fraction, rule = self.held_out_fraction, "must lie between 0 and 1"
        fix = "preferences.held_out_fraction=0.05"
        require(0 < fraction < 1, "preferences.held_out_fraction", fraction, rule, fix)
