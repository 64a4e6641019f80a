"""A scalar head on the Transformer's backbone: the reward model and PPO's critic are both this.

Shapes: B batch, T tokens, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.model.attention import KVCache, Projection
from components.model.config import ModelConfig
from components.model.transformer import Backbone, Transformer


class ScalarModel(nn.Module):
    """One number per token.

    Args:
        config: Shape of the backbone.
        generator: Source of the backbone's initial weights; the head starts at zero.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
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
        std = 0.0 if generator is None else (model.config.dim + 1) ** -0.5
        nn.init.normal_(scalar.score.weight, std=std, generator=generator)
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
        hidden_BTD = self.backbone(tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT, cache=cache)
        values_BT: Tensor = self.score(hidden_BTD).squeeze(-1)
        return values_BT
