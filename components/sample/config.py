"""Settings of the sample website."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require

# The reserved top-level domain "test" never resolves, so nothing of the sample can reach a real host.
HOST = "sample.headwater.test"


@dataclass(frozen=True)
class SampleConfig:
    """How large the website is and how badly parts of it behave.

    Every count is capped by what the packages hold. The defaults give about 680 HTML pages with about 8 MB of text.

    Attributes:
        conversations: English conversations, several on a page.
        conversations_per_page: How many of them a page holds.
        questions: English question-and-answer pairs, by category; the Chinese ones are all shown.
        questions_per_page: How many pairs a page holds.
        articles: Chinese news articles with a page of their own.
        digests: Pages of eight shorter Chinese news items each.
        reviews: Chinese customer reviews.
        reviews_per_page: How many of them a page holds.
        list_size: Entries on one page of a section's paginated list.
        duplicates: Pages served again, byte for byte, at another URL.
        near_duplicates: Pages served again with small edits.
        junk: Pages of each kind of junk: keyword spam, link farm, mojibake, repeated lines, hardly any text.
        private: Pages below /private/, which robots.txt forbids.
        slow_s: Seconds the one slow page takes to answer.
        seed: Seed of the choice of texts and of the junk.
    """

    conversations: int = 1800
    conversations_per_page: int = 7
    questions: int = 900
    questions_per_page: int = 40
    articles: int = 130
    digests: int = 60
    reviews: int = 4800
    reviews_per_page: int = 60
    list_size: int = 25
    duplicates: int = 12
    near_duplicates: int = 16
    junk: int = 5
    private: int = 6
    slow_s: float = 2.0
    seed: int = 17

    def __post_init__(self) -> None:
        for name in ("conversations_per_page", "questions_per_page", "reviews_per_page", "list_size"):
            require(
                getattr(self, name) >= 1, f"site.{name}", getattr(self, name), "must be at least 1", f"site.{name}=20"
            )
        for name in ("conversations", "questions", "articles", "digests", "reviews", "junk", "private"):
            require(
                getattr(self, name) >= 0, f"site.{name}", getattr(self, name), "must not be negative", f"site.{name}=0"
            )
        for name in ("duplicates", "near_duplicates"):
            require(
                getattr(self, name) >= 0, f"site.{name}", getattr(self, name), "must not be negative", f"site.{name}=0"
            )
        total = self.conversations + self.questions + self.articles + self.digests + self.reviews
        require(total > 0, "site.conversations", self.conversations, "leaves no text at all", "site.conversations=100")
        require(self.slow_s >= 0, "site.slow_s", self.slow_s, "must not be negative", "site.slow_s=2")
