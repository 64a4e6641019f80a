"""The training loops of nanoGPT, litgpt and Hugging Face, each as its users run it, in rounds. Run by their own Python.

python pretraining_peers.py PEER SHAPE [compile]      PEER: nanogpt, litgpt, trainer; SHAPE: a JSON object

nanoGPT's `train.py` and litgpt's `pretrain.setup` run as they are, over random ids, without evaluation and
checkpoints; Hugging Face's is its `Trainer` with its default optimizer. Models start at random.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pacing import Pacer

FOREVER = 1_000_000


def nanogpt(shape: dict[str, Any], pacer: Pacer, compiled: bool) -> None:
    """Runs `train.py` of the checkout that HEADWATER_NANOGPT names."""
    folder = Path(tempfile.mkdtemp())
    for name in ("train.bin", "val.bin"):
        random_ids(shape, 200_000).astype(np.uint16).tofile(folder / name)
    # The vocabulary comes from the data set's meta.pkl, written here, read there.
    import pickle

    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": shape["vocab"]}))
    settings = {
        "dataset": str(folder),
        "out_dir": str(folder / "out"),
        "device": shape["device"],
        "dtype": "bfloat16" if shape["device"] == "cuda" else "float32",
        "compile": compiled,
        "eval_interval": FOREVER,
        "eval_iters": 1,
        "log_interval": 10,
        "gradient_accumulation_steps": 1,
        "batch_size": shape["batch"],
        "block_size": shape["length"],
        "n_layer": shape["layers"],
        "n_head": shape["heads"],
        "n_embd": shape["dim"],
        "bias": True,
    }
    os.chdir(os.environ["HEADWATER_NANOGPT"])
    sys.path.insert(0, os.getcwd())
    sys.argv = ["train.py", *(f"--{name}={value}" for name, value in settings.items())]
    mapped = np.memmap

    def paced(path: str, **arguments: object) -> object:
        # It maps the file anew for each batch: one call is one step.
        if str(path).endswith("train.bin"):
            pacer.step()
        return mapped(path, **arguments)  # type: ignore[call-overload]

    np.memmap = paced  # type: ignore[assignment,misc]
    runpy.run_path("train.py", run_name="__main__")


def litgpt(shape: dict[str, Any], pacer: Pacer, compiled: bool) -> None:
    """Runs `litgpt pretrain`, which compiles whatever it trains: for the eager figure that is taken out."""
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.config import Config
    from litgpt.data.base import DataModule
    from litgpt.pretrain import setup
    from torch.utils.data import DataLoader, IterableDataset

    length, batch = shape["length"], shape["batch"]
    ids = torch.from_numpy(random_ids(shape, 200_000)).unfold(0, length + 1, length)

    class Rows(IterableDataset[Any]):
        def __init__(self, paced: bool) -> None:
            self._paced = paced

        def __iter__(self) -> Iterator[torch.Tensor]:
            for start in range(0, len(ids) - batch + 1, batch):
                if self._paced:
                    pacer.step()
                yield ids[start : start + batch]

    class Made(DataModule):
        def connect(self, *arguments: object, **named: object) -> None:
            pass

        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(Rows(paced=True), batch_size=None)

        def val_dataloader(self) -> DataLoader[Any]:
            return DataLoader(Rows(paced=False), batch_size=None)

    if not compiled:
        torch.compile = lambda model: model  # type: ignore[assignment]
    config = Config(
        name="bench",
        block_size=length,
        vocab_size=shape["vocab"],
        padded_vocab_size=shape["vocab"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        n_embd=shape["dim"],
        intermediate_size=shape["ffn"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    train = TrainArgs(
        save_interval=None,
        log_interval=10,
        global_batch_size=batch,
        micro_batch_size=batch,
        max_tokens=FOREVER * batch * length,
        max_norm=1.0,
        lr_warmup_steps=100,
        tie_embeddings=True,
    )
    precision = "bf16-true" if shape["device"] == "cuda" else "32-true"
    folder = Path(tempfile.mkdtemp())
    data, evaluation = Made(), EvalArgs(interval=FOREVER, max_iters=1)
    setup("bench", config, folder, precision, data=data, train=train, eval=evaluation, devices=1, logger_name="csv")


def trainer(shape: dict[str, Any], pacer: Pacer, compiled: bool) -> None:
    """Runs transformers' Trainer over the class of the family."""
    import transformers
    from torch.utils.data import Dataset

    length, batch = shape["length"], shape["batch"]
    ids = torch.from_numpy(random_ids(shape, 200_000)).unfold(0, length, length)

    class Rows(Dataset[Any]):
        def __len__(self) -> int:
            return len(ids)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return {"input_ids": ids[index], "labels": ids[index]}

    class Paced(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *arguments: object, **named: object) -> None:
            pacer.step()

    arguments = transformers.TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=batch,
        max_steps=FOREVER,
        use_cpu=shape["device"] == "cpu",
        bf16=shape["device"] == "cuda",
        learning_rate=6e-4,
        weight_decay=0.1,
        max_grad_norm=1.0,
        lr_scheduler_type="cosine",
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        torch_compile=compiled,
    )
    model = hugging_face_model(shape)
    transformers.Trainer(model, arguments, train_dataset=Rows(), callbacks=[Paced()]).train()


def hugging_face_model(shape: dict[str, Any]) -> Any:
    """GPT-2 or LLaMA of this shape, embeddings tied, no dropout."""
    import transformers

    if shape["family"] == "gpt2":
        small = {"n_positions": shape["length"], "n_embd": shape["dim"], "n_layer": shape["layers"]}
        rest = {"n_head": shape["heads"], "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        config = transformers.GPT2Config(vocab_size=shape["vocab"], **small, **rest)
        return transformers.GPT2LMHeadModel(config)
    config = transformers.LlamaConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["dim"],
        intermediate_size=shape["ffn"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        max_position_embeddings=shape["length"],
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config)


def random_ids(shape: dict[str, Any], size: int) -> Any:
    """Ids from which no speed depends."""
    return np.random.default_rng(1).integers(7, shape["vocab"], size)


if __name__ == "__main__":
    shape = json.loads(sys.argv[2])
    run = {"nanogpt": nanogpt, "litgpt": litgpt, "trainer": trainer}[sys.argv[1]]
    run(shape, Pacer(shape["warmup"], shape["steps"], shape["device"]), "compile" in sys.argv[3:])
