"""What the model writes while it learns: a few continuations at every evaluation.

The weights are gathered into an unsharded replica on rank 0 and sampled there: under ZeRO-3 every token would gather
every weight anew, and all ranks would have to walk in step.
"""

from __future__ import annotations

from components.context import Rank, derive_seed
from components.model.config import SamplingConfig
from components.model.generate import generate
from components.model.language import AnyConfig, build_language_model
from components.pretrain.config import PretrainConfig
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS
from components.training.engine import Engine, copy_weights


class Sampler:
    """Writes samples to the journal and keeps the last ones.

    Args:
        config: Prompts, length and temperature.
        shape: Shape of the model.
        tokenizer: Turns prompts into tokens and back.
        rank: This process; rank 0 writes.
        seed: Root of the samples' seeds; each prompt draws the same numbers at every evaluation.
    """

    def __init__(
        self, config: PretrainConfig, shape: AnyConfig, tokenizer: TextTokenizer, rank: Rank, seed: int
    ) -> None:
        self.samples: list[dict[str, str]] = []
        self.step = -1
        self._config, self._shape, self._tokenizer, self._rank = config, shape, tokenizer, rank
        self._seeds = [derive_seed(seed, number) for number in range(len(config.samples))]
        self._prompts = [[BOS, *tokenizer.encode(text)][: shape.max_length // 2] for text in config.samples]

    def write(self, engine: Engine, step: int) -> None:
        """Continues every prompt with the engine's weights of now. Collective."""
        config, self.step = self._config, step
        if not config.samples or not config.sample_tokens:
            return
        weights = engine.full_weights()
        if self._rank.rank != 0:
            return
        replica = build_language_model(self._shape).eval()
        copy_weights(weights, replica)
        room = self._shape.max_length - max(map(len, self._prompts))
        sampling = SamplingConfig(temperature=config.sample_temperature, max_new_tokens=min(config.sample_tokens, room))
        replies = generate(replica, self._prompts, sampling, {EOS}, self._seeds)
        self.samples = [
            {"prompt": prompt, "text": self._tokenizer.decode(reply.tokens)}
            for prompt, reply in zip(config.samples, replies, strict=True)
        ]
        lines = [f"{sample['prompt']}|{sample['text']}" for sample in self.samples]
        self._rank.channel.text("sample", "\n".join(lines), step)
