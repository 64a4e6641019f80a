"""Writing the targets of many sources with a published folder: module-level, so that workers can share the ways out."""

from __future__ import annotations

import torch

from components.launching import device_of
from components.model.config import SamplingConfig
from components.model.generate import generate
from components.model.huggingface import load_encoder_decoder
from components.posttrain.replies import batches_by_length
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS
from components.translate.data import encode_source
from components.translate.evaluate import Work


def write(work: Work) -> list[str]:
    """The target of every source, in order; on one compute thread where there is no GPU."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    device = device_of(0)
    model = load_encoder_decoder(work.folder).to(device).eval()
    tokenizer = TextTokenizer.from_folder(work.folder)
    longest = model.config.max_length
    sources = [encode_source(tokenizer, text, longest) for text in work.sources]
    sampling = SamplingConfig(
        temperature=0,
        max_new_tokens=longest - 1,
        num_beams=work.num_beams,
        length_penalty=work.config.length_penalty,
    )
    written = [""] * len(sources)
    for indices in batches_by_length([len(source) for source in sources], work.config.micro_batch):
        some = [sources[index] for index in indices]
        rows = generate(model, [[BOS]] * len(some), sampling, {EOS}, [0] * len(some), device, some)
        for index, row in zip(indices, rows, strict=True):
            written[index] = tokenizer.decode(row.tokens)
    return written
