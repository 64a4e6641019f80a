"""What does not fit is refused with its estimate and the change that fits; what might fit is not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from components.errors import MachineError
from components.model.config import ModelConfig
from components.training.config import TrainingConfig
from components.training.estimate import BAND, GIB, estimate_memory
from components.training.room import Device, check_folder, check_room, fits, needed, parse_gpus, this_machine

SHAPE = ModelConfig(vocab_size=32768, dim=2048, num_layers=16, num_heads=16, num_kv_heads=8, ffn_dim=8192)
TRAINING = TrainingConfig(batch_size=64, micro_batch=16, ranks=4, zero_stage=1)


def gpu(gib: float, has_bf16: bool = True) -> Device:
    return Device("cuda", "a test GPU", gib * GIB, has_bf16, 1)


def refusal(training: TrainingConfig, device: Device) -> MachineError:
    with pytest.raises(MachineError) as caught:
        check_room(SHAPE, training, 2048, device, "pretrain.training")
    return caught.value


def test_what_fits_passes_and_an_unknown_device_refuses_nothing():
    check_room(SHAPE, TRAINING, 512, gpu(640), "pretrain.training")
    check_room(SHAPE, TRAINING, 2048, None, "pretrain.training")


def test_the_refusal_names_need_room_parts_and_key():
    error = refusal(TRAINING, gpu(24))
    assert error.what.startswith("Training needs about ")
    assert "GiB for a rank of a test GPU, which has 24.0 GiB: activations " in error.what
    assert "weights" in error.what
    assert error.where.startswith("pretrain.training")


def test_the_fix_is_the_first_change_that_fits():
    assert refusal(TRAINING, gpu(20)).fix == "set pretrain.training.micro_batch=4"
    one = replace(TRAINING, micro_batch=1)
    assert refusal(one, gpu(9)).fix == "set pretrain.training.micro_batch=1 pretrain.training.recompute=blocks"
    assert refusal(one, gpu(8)).fix.endswith("pretrain.training.recompute=blocks pretrain.training.zero_stage=2")
    assert refusal(one, gpu(1)).fix.startswith("take a smaller model=")


def test_every_fix_that_is_named_is_accepted():
    for gib in (10, 14, 20, 30, 45):
        fix = refusal(TRAINING, gpu(gib)).fix
        if not fix.startswith("set "):
            continue
        changes = dict(word.removeprefix("pretrain.training.").split("=") for word in fix[4:].split())
        typed = {name: value if name == "recompute" else int(value) for name, value in changes.items()}
        check_room(SHAPE, replace(TRAINING, **typed), 2048, gpu(gib), "pretrain.training")


def test_only_what_cannot_fit_by_any_error_of_the_estimate_is_refused():
    memory = estimate_memory(SHAPE, TRAINING, 2048, on_cpu=False)
    assert fits(memory, TRAINING, gpu(memory.device * (1 - BAND) / GIB))
    assert not fits(memory, TRAINING, gpu(memory.device * (1 - BAND) / GIB * 0.99))


def test_ranks_on_one_machine_share_its_memory():
    machine = replace(gpu(1), kind="cpu", sharers=2)
    memory = estimate_memory(SHAPE, TRAINING, 512, on_cpu=True)
    assert needed(memory, TRAINING, machine) == pytest.approx(2 * memory.device - memory.checkpoint)
    assert needed(memory, replace(TRAINING, ranks=1), machine) == memory.device


def test_a_device_without_bf16_is_refused_for_bf16_alone():
    error = refusal(replace(TRAINING, precision="bf16"), gpu(640, has_bf16=False))
    assert error.what == "a test GPU does not compute in bf16."
    assert error.fix == "set pretrain.training.precision=fp16, or fp32"
    check_room(SHAPE, replace(TRAINING, precision="fp16"), 512, gpu(640, has_bf16=False), "pretrain.training")


def test_gpus_are_read_from_the_table_of_nvidia_smi():
    table = "Tesla V100-SXM2-16GB, 16160, 7.0\nNVIDIA H100 80GB HBM3, 81559, 9.0\n[N/A], [N/A], [N/A]\n\n"
    v100, h100 = parse_gpus(table)
    assert (v100.name, v100.memory_bytes, v100.has_bf16) == ("Tesla V100-SXM2-16GB", 16160 * 2**20, False)
    assert (h100.name, h100.has_bf16, h100.sharers) == ("NVIDIA H100 80GB HBM3", True, 1)


def test_this_machine_has_memory_and_cores():
    machine = this_machine()
    assert machine.kind == "cpu"
    assert machine.memory_bytes > GIB / 4
    assert machine.sharers >= 1


def test_a_model_in_a_folder_is_estimated_before_its_weights_are_read(tmp_path):
    values = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 128256,
        "hidden_size": 16384,
        "num_hidden_layers": 300,
        "num_attention_heads": 128,
        "num_key_value_heads": 8,
        "intermediate_size": 65536,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    save_file({"lm_head.weight": np.zeros((1, 1), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(MachineError, match="of this machine, which has"):
        check_folder(tmp_path, TRAINING, 512, "cpu", "sft.training")
