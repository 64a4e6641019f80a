"""Other heads on the Transformer's backbone: one number per token, or one label per text.

`ScalarModel` is the reward model and PPO's critic; `ClassifierModel` is an encoder fine-tuned on labelled texts.

Shapes: B batch, T tokens, D model width, L labels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.model.attention import Projection
from components.model.backbone import EMBEDDING_STD, Backbone, fill
from components.model.cache import KVCache
from components.model.config import ENCODERS, ModelConfig, resolved
from components.model.transformer import Transformer


class ScalarModel(nn.Module):
    """One number per token.

    Args:
        config: Shape of the backbone.
        generator: Source of the backbone's initial weights; the head starts at zero.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, config = config, resolved(config)
        self.backbone = Backbone(config)
        self.score = Projection(config.dim, 1)
        self.backbone.initialise(generator)
        nn.init.zeros_(self.score.weight)

    @classmethod
    def from_transformer(cls, model: Transformer, generator: torch.Generator | None = None) -> ScalarModel:
        """Copies a language model's backbone and adds a head.

        Args:
            model: Where the backbone comes from; left as it is.
            generator: Draws the head from N(0, 1 / (dim + 1)) as in 2009.01325; None leaves it zero.
        """
        with torch.device("meta"):
            scalar = cls(model.config)
        scalar.to_empty(device=model.backbone.embed.weight.device)
        scalar.backbone.load_state_dict(model.backbone.state_dict())
        draw_score(scalar.score.weight, generator)
        return scalar

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """The head's value at every token, [B, T]; arguments as in `Transformer.forward`."""
        hidden_BTD, _ = self.backbone(tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT, cache=cache)
        values_BT: Tensor = self.score(hidden_BTD).squeeze(-1)
        return values_BT


def draw_score(weight_1D: Tensor, generator: torch.Generator | None) -> None:
    """Draws a scalar head from N(0, 1 / (dim + 1)) as in 2009.01325; without a generator it is zero."""
    std = 0.0 if generator is None else (weight_1D.shape[1] + 1) ** -0.5
    nn.init.normal_(weight_1D, std=std, generator=generator)


class ClassifierModel(nn.Module):
    """One score per label, of what BertForSequenceClassification or EuroBertForSequenceClassification read.

    A bert reads the first token of a text ([CLS]), a eurobert the mean over its tokens (classifier_pooling="mean").

    Args:
        config: Shape of the backbone, an encoder.
        num_labels: Labels.
        generator: Source of the initial weights.
    """

    def __init__(self, config: ModelConfig, num_labels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if config.family not in ENCODERS:
            raise ValueError(f"a classifier sees both directions, which model.family={config.family} does not")
        self.config, config = config, resolved(config)
        self.num_labels = num_labels
        self.backbone = Backbone(config)
        self.pooler = Projection(config.dim, config.dim, bias=True)
        self.classifier = Projection(config.dim, num_labels, bias=True)
        self.backbone.initialise(generator)
        fill(self.pooler, config.dim**-0.5, generator)
        fill(self.classifier, EMBEDDING_STD, generator)

    @classmethod
    def from_transformer(
        cls,
        model: Transformer,
        num_labels: int,
        generator: torch.Generator | None = None,
        dropout: float | None = None,
    ) -> ClassifierModel:
        """Copies the backbone of a pretrained encoder and adds a new head.

        Args:
            model: Where the backbone comes from; left as it is.
            num_labels: Labels.
            generator: Draws the head.
            dropout: While it is fine-tuned; None keeps the model's.
        """
        config = model.config if dropout is None else replace(model.config, dropout=dropout)
        classifier = cls(config, num_labels, generator).to(model.backbone.embed.weight.device)
        classifier.backbone.load_state_dict(model.backbone.state_dict())
        return classifier

    def forward(self, tokens_BT: Tensor, *, segments_BT: Tensor | None = None) -> Tensor:
        """Scores of the labels (logits), [B, L].

        Args:
            tokens_BT: Token numbers, [CLS] first.
            segments_BT: -1 for padding, else 0.
        """
        hidden_BTD, _ = self.backbone(tokens_BT, segments_BT=segments_BT)
        if self.config.family == "bert":
            pooled_BD = torch.tanh(self.pooler(hidden_BTD[:, 0]))
        else:
            pooled_BD = F.gelu(self.pooler(_mean(hidden_BTD, segments_BT)))
        dropout = self.config.dropout if self.training else 0.0
        scores_BL: Tensor = self.classifier(F.dropout(pooled_BD, dropout))
        return scores_BL


def _mean(hidden_BTD: Tensor, segments_BT: Tensor | None) -> Tensor:
    """The mean over the tokens of each text, [B, D]; a row of padding alone gives zeros."""
    if segments_BT is None:
        return hidden_BTD.mean(1)
    text_BT1 = (segments_BT >= 0)[:, :, None].to(hidden_BTD.dtype)
    return (hidden_BTD * text_BT1).sum(1) / text_BT1.sum(1).clamp(min=1)
