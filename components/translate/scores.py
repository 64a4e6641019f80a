"""How near written texts are to their references: BLEU and chrF by sacrebleu, ROUGE by rouge-score, and exact ones.

BLEU and chrF (0 to 100) are of the whole corpus, ROUGE (F1, 0 to 1) and exact matches are means over texts. ROUGE cuts
texts as `units` does: words where a script separates them, single characters where it does not; rouge-score's own
tokenizer would drop every letter outside a to z.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.evaluate.text_metrics import units
from components.instructions.files import guess_lang

ROUGE = ("rouge1", "rouge2", "rougeL")


class Units:
    """rouge-score's protocol of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        """The units of a text."""
        return units(text)


def bleu_cut(tokenize: str, references: Sequence[str]) -> str:
    """The name of sacrebleu's way to cut texts that a setting comes to."""
    if tokenize != "auto":
        return tokenize
    return "zh" if guess_lang(({"role": "user", "content": " ".join(references)},)) == "zh" else "13a"


def score_texts(written: Sequence[str], references: Sequence[str], cut: str) -> dict[str, float]:
    """Scores texts against one reference each.

    Args:
        written: The texts.
        references: What should have been written, in the same order; at least one.
        cut: sacrebleu's name of how BLEU cuts texts.

    Returns:
        bleu, chrf, rouge1, rouge2, rougeL, and exact, the share of texts that are their reference.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    scorer = RougeScorer(list(ROUGE), tokenizer=Units())
    pairs = list(zip(written, references, strict=True))
    rouge = [scorer.score(reference, text) for text, reference in pairs]
    return {
        "bleu": float(BLEU(tokenize=cut).corpus_score(list(written), [list(references)]).score),
        "chrf": float(CHRF().corpus_score(list(written), [list(references)]).score),
        **{name: sum(float(one[name].fmeasure) for one in rouge) / len(rouge) for name in ROUGE},
        "exact": sum(text == reference for text, reference in pairs) / len(pairs),
    }


def nearest(sources: Sequence[str], asked: Sequence[str]) -> list[int]:
    """For each text asked for the nearest of some sources: by the cosine of counted runs of 1 to 4 characters.

    Rare runs count more (inverse document frequency over the sources). Of equally near sources the first.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    counting = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=False)
    known = counting.fit_transform(sources)
    found: list[int] = []
    for start in range(0, len(asked), 256):
        some = counting.transform(asked[start : start + 256])
        found += (some @ known.T).toarray().argmax(axis=1).tolist()
    return found
