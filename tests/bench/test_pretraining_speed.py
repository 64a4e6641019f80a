"""Tokens a second of training beside nanoGPT, litgpt and Hugging Face's Trainer, eager and compiled.

Each trains the same shape by its own loop: ours through loader, engine and `train`, theirs as their users run them. One
thread, CPU time, programs interleaved a few steps at a time; the minimum and the median of the rounds. Peers come from
pinned lists, nanoGPT from the checkout that HEADWATER_NANOGPT names. Run with `make bench`; goals: 1.15 of nanoGPT,
1.35 of litgpt, 1.3 of Trainer, 1.1 where all are compiled. Nothing passes or fails by the clock.
"""

from __future__ import annotations

import os

import pytest
from peer_help import environment_of
from side_by_side import Entrant, ours, peer, shape_of, table, take_turns

ROUNDS, STEPS, WARMUP = 9, 4, 4
SIZES = {"vocab": 8192, "dim": 256, "layers": 6, "heads": 4, "length": 256, "batch": 8, "device": "cpu"}
LLAMA = shape_of(family="llama", ffn=704, warmup=WARMUP, steps=STEPS, **SIZES)
GPT2 = shape_of(family="gpt2", ffn=1024, warmup=WARMUP, steps=STEPS, **SIZES)
TOKENS = STEPS * int(SIZES["batch"]) * int(SIZES["length"])
FILES = ("our_pretraining.py", "pretraining_peers.py")


def headwater(shape: str, *compiled: str) -> list[Entrant]:
    """Both engines; ZeRO-1 only where nothing is compiled."""
    entrants = [ours("headwater, plain", FILES[0], "plain", shape, *compiled)]
    return entrants if compiled else [*entrants, ours("headwater, ZeRO-1", FILES[0], "zero1", shape)]


def compare(title: str, entrants: list[Entrant]) -> None:
    took = take_turns(entrants, ROUNDS)
    print(f"\n{title}: {ROUNDS} rounds of {STEPS} steps")
    print(table(took, TOKENS, "tokens/s", entrants[0].name))


@pytest.mark.bench
@pytest.mark.parametrize("compiled", [[], ["compile"]], ids=["eager", "compiled"])
def test_llama_beside_litgpt_and_trainer(compiled: list[str]) -> None:
    litgpt = peer("litgpt", environment_of("litgpt"), FILES[1], "litgpt", LLAMA, *compiled)
    trainer = peer("Trainer", environment_of("trainer"), FILES[1], "trainer", LLAMA, *compiled)
    compare(f"LLaMA {' '.join(compiled)}", [*headwater(LLAMA, *compiled), litgpt, trainer])


@pytest.mark.bench
@pytest.mark.parametrize("compiled", [[], ["compile"]], ids=["eager", "compiled"])
def test_gpt2_beside_nanogpt_and_trainer(compiled: list[str]) -> None:
    if "HEADWATER_NANOGPT" not in os.environ:
        pytest.skip("HEADWATER_NANOGPT names no checkout of nanoGPT")
    environment = environment_of("trainer")
    nanogpt = peer("nanoGPT", environment, FILES[1], "nanogpt", GPT2, *compiled)
    trainer = peer("Trainer", environment, FILES[1], "trainer", GPT2, *compiled)
    compare(f"GPT-2 {' '.join(compiled)}", [*headwater(GPT2, *compiled), nanogpt, trainer])
