"""Random rows of 2,049 tokens by a memory-mapped array, Hugging Face datasets and litdata. Run by their own Python.

python loader_peers.py prepare FOLDER       FOLDER/ids.bin (uint16) becomes each peer's own format
python loader_peers.py read PEER FOLDER ROWS    prints tokens per second of CPU time
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LENGTH, BATCH = 2048, 64


def prepare(folder: Path) -> None:
    """Writes the rows as a Hugging Face dataset and the ids as a litdata one."""
    import torch
    from datasets import Dataset, Features, List, Value
    from litdata import TokensLoader, optimize

    ids = np.fromfile(folder / "ids.bin", np.uint16)
    rows = ids[: len(ids) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    features = Features({"ids": List(Value("uint16"))})
    Dataset.from_dict({"ids": list(rows)}, features=features).save_to_disk(str(folder / "datasets"))
    chunks = [torch.from_numpy(part.astype(np.int32)) for part in np.array_split(rows, 8)]
    loader = TokensLoader(block_size=LENGTH + 1)
    size = (LENGTH + 1) * 2048
    optimize(flat, chunks, str(folder / "litdata"), chunk_size=size, item_loader=loader, num_workers=1)


def flat(part: object) -> Iterator[object]:
    """The ids of some rows, row by row."""
    yield from part  # type: ignore[attr-defined]


def memmap(folder: Path) -> Iterator[object]:
    """What nanoGPT does."""
    import torch

    draw = np.random.default_rng(1)
    ids = np.memmap(folder / "ids.bin", np.uint16, "r")
    while True:
        starts = draw.integers(0, len(ids) - LENGTH - 1, BATCH).tolist()
        yield torch.stack([torch.from_numpy(ids[start : start + LENGTH + 1].astype(np.int64)) for start in starts])


def datasets(folder: Path) -> Iterator[object]:
    """Random access to a memory-mapped table."""
    from datasets import load_from_disk

    draw = np.random.default_rng(1)
    table = load_from_disk(str(folder / "datasets")).with_format("numpy")
    while True:
        yield table[draw.integers(0, len(table), BATCH).tolist()]["ids"]


def litdata(folder: Path) -> Iterator[object]:
    """Its own shuffle, in this process."""
    from litdata import StreamingDataLoader, StreamingDataset, TokensLoader

    data = StreamingDataset(str(folder / "litdata"), item_loader=TokensLoader(block_size=LENGTH + 1), shuffle=True)
    while True:
        yield from StreamingDataLoader(data, batch_size=BATCH, num_workers=0)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    else:
        batches = {"memmap": memmap, "datasets": datasets, "litdata": litdata}[sys.argv[2]](Path(sys.argv[3]))
        next(batches)
        count = int(sys.argv[4]) // BATCH
        start = time.process_time()
        for _ in range(count):
            next(batches)
        print(f"took {count * BATCH * (LENGTH + 1) / (time.process_time() - start)}")
