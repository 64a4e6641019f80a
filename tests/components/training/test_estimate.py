"""The estimate of a rank's memory: its rules, and what training processes really take."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from components.model.config import ModelConfig
from components.model.counting import num_parameters
from components.training.config import TrainingConfig
from components.training.estimate import BAND, estimate_memory

SHAPE = ModelConfig(vocab_size=1000, dim=64, num_layers=4, num_heads=4, num_kv_heads=4, ffn_dim=256)
TRAINING = TrainingConfig(batch_size=64, micro_batch=4, ranks=4, precision="bf16")
P = num_parameters(SHAPE)

MEASURE = """
import json, os, sys
from pathlib import Path
from components.channel import Channel
from components.context import Rank, free_port
from components.launching import Seat, prepare_process, process_group
from components.model.config import ModelConfig
from components.training.config import TrainingConfig
shape, training, length = json.loads(sys.argv[1])
config, training = ModelConfig(**shape), TrainingConfig(**training)
prepare_process("cpu")
import torch
from components.model.transformer import build_model
from components.training.engine import make_engine
with process_group(Seat(0, 1, 0, 1, "127.0.0.1", free_port()), "cpu"):
    rank = Rank(0, 1, 0, "cpu", Channel(Path(sys.argv[2])))
    engine = make_engine(build_model(config, torch.Generator().manual_seed(0)), training, rank)
    def step():
        for _ in range(2):
            tokens = torch.randint(0, config.vocab_size, (training.micro_batch, length))
            engine.backward(engine.module(tokens, tokens) / tokens.numel())
        engine.step(1e-4)
    step()
    copies = engine.full_weights(), engine.optimizer_state()  # what is written while training goes on
    step()
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
sys.stdout.flush()
os._exit(0)
"""
WIDE = {"vocab_size": 32768, "dim": 512, "num_layers": 8, "num_heads": 8, "num_kv_heads": 2, "ffn_dim": 1536}
LONG = {"vocab_size": 8192, "dim": 256, "num_layers": 6, "num_heads": 4, "num_kv_heads": 4, "ffn_dim": 768}
GPT2 = {
    "family": "gpt2",
    "vocab_size": 4096,
    "dim": 256,
    "num_layers": 6,
    "num_heads": 4,
    "num_kv_heads": 4,
    "ffn_dim": 1024,
}
CASES = {
    "many weights, plain": (WIDE, {"engine": "plain", "micro_batch": 1}, 128),
    "many weights, ZeRO-1": (WIDE, {"zero_stage": 1, "micro_batch": 1}, 128),
    "many weights, ZeRO-3": (WIDE, {"zero_stage": 3, "micro_batch": 1}, 128),
    "many activations, plain": (LONG, {"engine": "plain", "micro_batch": 8}, 256),
    "many activations, ZeRO-1": (LONG, {"zero_stage": 1, "micro_batch": 8}, 256),
    "gpt2, plain": (GPT2, {"engine": "plain", "micro_batch": 16}, 256),
}


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "training", "length"), CASES.values(), ids=CASES)
def test_the_estimate_lies_within_its_band_of_the_peak_of_a_real_training(shape, training, length, tmp_path):
    settings = {"batch_size": 16, "ranks": 1, **training}
    words = [sys.executable, "-c", MEASURE, json.dumps([shape, settings, length]), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    measured = int(done.stdout.split()[-1])
    estimated = estimate_memory(ModelConfig(**shape), TrainingConfig(**settings), length, on_cpu=True).device
    print(f"measured {measured >> 20} MiB, estimated {int(estimated) >> 20} MiB, {estimated / measured - 1:+.1%}")
    assert abs(estimated / measured - 1) <= BAND


def test_without_sharding_all_states_are_whole():
    memory = estimate_memory(SHAPE, replace(TRAINING, zero_stage=0), 64, on_cpu=False)
    assert (memory.weights, memory.gradients, memory.optimizer) == (6 * P, 4 * P, 8 * P)
    assert memory.buckets == memory.gathered == 0


def test_each_stage_splits_one_more_state_over_the_ranks():
    stages = [estimate_memory(SHAPE, replace(TRAINING, zero_stage=stage), 64, on_cpu=False) for stage in (1, 2, 3)]
    assert [memory.optimizer for memory in stages] == [2 * P] * 3
    assert [memory.gradients for memory in stages] == [2 * P + P, P, P]
    assert [memory.weights for memory in stages] == [2 * P + P, 2 * P + P, 0.5 * P + P]
    assert stages[2].gathered == 2 * P - 0.5 * P


def test_offloaded_states_move_to_the_host():
    here = estimate_memory(SHAPE, replace(TRAINING, zero_stage=3), 64, on_cpu=False)
    away = estimate_memory(SHAPE, replace(TRAINING, zero_stage=3, offload="cpu"), 64, on_cpu=False)
    assert away.weights == away.gradients == away.optimizer == 0
    assert away.offloaded == here.weights + here.gradients + here.optimizer
    nvme = replace(TRAINING, zero_stage=3, offload="nvme", offload_folder="disk")
    assert estimate_memory(SHAPE, nvme, 64, on_cpu=False).host == here.checkpoint


def test_optimizers_differ_in_their_moments():
    of = {
        name: estimate_memory(SHAPE, replace(TRAINING, zero_stage=0, optimizer=name), 64, False).optimizer / P
        for name in ("adamw", "muon", "adamw8bit")
    }
    assert of["adamw"] == 8
    assert 4 < of["muon"] < 8
    assert 2 < of["adamw8bit"] < 2.1


def test_activations_grow_with_tokens_and_shrink_by_recomputation_and_parallelism():
    def kept(length: int = 64, **changes: object) -> float:
        return estimate_memory(SHAPE, replace(TRAINING, **changes), length, on_cpu=False).activations

    assert kept(128) == 2 * kept(64)
    assert kept(micro_batch=8) == 2 * kept()
    assert kept(recompute="blocks") < kept() / 2
    assert kept(sequence_parallel=2) == kept() / 2
    assert kept(precision="fp32") == 2 * kept()


def test_the_logits_are_never_held_as_a_whole():
    large = replace(SHAPE, vocab_size=100_000)
    memory = estimate_memory(large, replace(TRAINING, micro_batch=64, ranks=1), 1024, on_cpu=True)
    assert memory.loss < 64 * 1024 * 100_000 * 4 / 10


def test_on_a_cpu_the_host_is_the_device():
    memory = estimate_memory(SHAPE, TRAINING, 64, on_cpu=True)
    assert memory.device > memory.host
    assert memory.checkpoint == 12 * P
