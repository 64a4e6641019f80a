"""Plain torch whose steps are differentially private: rows clipped one by one, noise on their sum.

    per row     the gradient of the row's summed loss, divided by the number of units of an average row
    clipped     to an L2 norm of at most `max_norm`, over all weights together
    per step    (sum over rows + N(0, (noise max_norm)^2)) / batch_size, given to the optimizer

A row's gradient does not depend on what else is in its step: the loss is divided by constants alone (rows and units a
step has on average), and rows are clipped before they meet. So micro-batches only bound memory, as everywhere.

Opacus finds the gradients of single rows in hooks on the modules: from what enters a module and the gradient of what
leaves it. It knows linear maps, embeddings and layer norms; our RMSNorm (its gradient written out by hand) and fused
projections are made known to it here. The output projection is entered as a module too (`_Head`), since a chunked
cross-entropy tells nothing about rows; where it is the embedding, both shares of that weight's gradient are added.

The hooks hold micro_batch times the weights: a smaller micro-batch takes less memory.

Noise and rows are drawn from a secret of the step (see `privacy.draw_secret`), never from the run's published seed:
who knows the noise can take it off.

Shapes: B rows, T tokens, D width, V vocabulary, N numbers before the last dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from opacus.grad_sample import GradSampleModule, register_grad_sampler
from opacus.grad_sample.linear import compute_linear_grad_sample
from torch import Tensor, nn

from components.context import Rank, derive_seed
from components.model.attention import Projection
from components.model.elementwise import RMSNorm
from components.model.loss import IGNORED
from components.model.output import scaled
from components.model.transformer import Transformer
from components.training.config import TrainingConfig
from components.training.engine import Accept, StepReport
from components.training.optim import set_lr
from components.training.plain_engine import PlainEngine, report
from components.training.precision import autocast, compute_dtype


class _Head(nn.Module):
    """The output projection as a module that hooks can watch; the weight is another's."""

    def __init__(self, weight_VD: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight_VD

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        return F.linear(hidden_BTD, self.weight)


class _Watched(nn.Module):
    """A causal language model whose every weight is used inside a module that hooks can watch.

    Args:
        model: The model; its weights are shared, not copied.
    """

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model
        self.head = _Head(cast(nn.Parameter, model.output.weight))

    def forward(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor | None = None,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """As `Transformer.forward`; in training, rows never mix."""
        model = self.model
        if targets_BT is None or not self.training:
            scored: Tensor = model(tokens_BT, targets_BT, positions_BT=positions_BT, segments_BT=segments_BT)
            return scored
        if model.backbone.positions is not None and positions_BT is None and segments_BT is None:
            # One position for all rows would be looked up once, and have no gradient of single rows.
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT)
        hidden_BTD = model.hidden(tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT)
        logits_BTV = self.head(scaled(hidden_BTD, model.config))
        return F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="sum", ignore_index=IGNORED
        )


def _rms_norm_rows(layer: RMSNorm, activations: list[Tensor], grads: Tensor) -> dict[nn.Parameter, Tensor]:
    """Per row the gradient of the weight, [B, D]: the sum of what leaves times what entered, normalised."""
    x = activations[0].float()
    normed = x * (x.square().mean(-1, keepdim=True) + layer._eps).rsqrt()
    return {layer.weight: torch.einsum("n...d,n...d->nd", grads.float(), normed)}


def _head_rows(layer: _Head, activations: list[Tensor], grads: Tensor) -> dict[nn.Parameter, Tensor]:
    """Per row the gradient of the weight, [B, V, D]."""
    return {layer.weight: torch.einsum("ntv,ntd->nvd", grads, activations[0].to(grads.dtype))}


register_grad_sampler(RMSNorm)(_rms_norm_rows)
register_grad_sampler(Projection)(compute_linear_grad_sample)
register_grad_sampler(_Head)(_head_rows)


class PrivateEngine(PlainEngine):
    """See `Engine`; one rank, and a causal language model without a mixture of experts.

    Args:
        model: A `Transformer`.
        config: As of the plain engine; `config.privacy.max_norm` and `config.batch_size` too.
        rank: This process.
        noise: Standard deviation of the noise as a multiple of the largest norm.
        secret: What the noise is drawn from; the same secret gives the same noise.
    """

    def __init__(self, model: Transformer, config: TrainingConfig, rank: Rank, noise: float, secret: int) -> None:
        super().__init__(model, config, rank)
        self._hooked = GradSampleModule(_Watched(model), loss_reduction="sum", strict=False)
        self.module = autocast(self._hooked, compute_dtype(config, self.device))
        self._max_norm, self._noise, self._rows = config.privacy.max_norm, noise, config.batch_size
        self._secret = secret
        self._sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in self._parameters]
        self._steps = 0

    def backward(self, loss: Tensor) -> None:
        """Adds the clipped gradients of the rows behind `loss`; see `Engine.backward`."""
        loss.backward()  # type: ignore[no-untyped-call]
        samples = [self._take(parameter) for parameter in self._parameters]
        norms_B = torch.stack([sample.flatten(1).norm(dim=1) for sample in samples]).norm(dim=0) * self._rows
        # A row without a gradient has norm 0, and stays as it is.
        shares_B = self._rows * (self._max_norm / norms_B.clamp_min(self._max_norm))
        for total, sample in zip(self._sums, samples, strict=True):
            total += torch.tensordot(shares_B, sample, dims=1)

    def step(self, lr: float, accept: Accept | None = None) -> StepReport:
        """Adds the noise and updates; see `Engine.step`. The norm is that of the gradient with its noise."""
        generator = torch.Generator(self.device).manual_seed(derive_seed(self._secret, "noise", self._steps))
        self._steps += 1
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            noise = torch.randn(total.shape, generator=generator, device=self.device)
            parameter.grad = ((total + self._noise * self._max_norm * noise) / self._rows).to(parameter.dtype)
            total.zero_()
        norm = float(torch.nn.utils.get_total_norm([cast(Tensor, p.grad) for p in self._parameters]))
        fit = math.isfinite(norm) and (accept is None or accept(norm))
        if fit:
            set_lr(self._optimizer, lr)
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return report(norm, fit, self._scale)

    def optimizer_state(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.optimizer_state`; the number of steps too, from which the noise of the next follows."""
        return {**super().optimizer_state(keep), "privacy_steps": torch.tensor(self._steps)}

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_optimizer_state`."""
        super().load_optimizer_state(state)
        self._steps = int(state["privacy_steps"])

    def close(self) -> None:
        """See `Engine.close`: the hooks go too."""
        self._hooked.remove_hooks()
        super().close()

    def _take(self, parameter: nn.Parameter) -> Tensor:
        """The rows' gradients of a weight, fp32 [B, ...], taken off it."""
        sample = cast(Tensor | None, getattr(parameter, "grad_sample", None))
        if sample is None:
            raise RuntimeError(f"a weight of shape {tuple(parameter.shape)} has no gradient of single rows")
        parameter.grad_sample = None  # type: ignore[attr-defined]
        parameter.grad = None
        return sample.float()
