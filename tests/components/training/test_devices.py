"""Peaks of devices: published ones by name, measured ones by the clock."""

from __future__ import annotations

import itertools

import pytest
import torch

from components.training.devices import device_name, measure_peak, peak_flops


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", 70),
        ("Tesla V100-SXM2-16GB", 125),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA B200", 2250),
    ],
)
def test_a_device_has_the_dense_peak_of_its_data_sheet(name, tflops):
    assert peak_flops(name) == tflops * 1e12


@pytest.mark.parametrize("name", ["cpu", "NVIDIA A1000", "NVIDIA GeForce GTX 1080", "H1000", ""])
def test_a_device_that_is_not_in_the_table_has_none(name):
    assert peak_flops(name) is None


def test_a_measured_peak_is_the_work_over_the_quickest_round():
    ticks = iter(itertools.accumulate([0, 9.0, 1.0, 0.5, 1.0, 0.25, 1.0, 2.0, 1.0]))  # rounds of 9, 0.5, 0.25 and 2
    measured = measure_peak(torch.device("cpu"), torch.float32, lambda: next(ticks), rounds=3)
    assert measured == 2 * 768**3 / 0.25


def test_the_processor_is_measured_at_a_speed_a_processor_has():
    assert 1e9 < measure_peak(torch.device("cpu"), torch.float32, rounds=2) < 1e14
    assert device_name(torch.device("cpu")) == "cpu"
