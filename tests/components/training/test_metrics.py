"""Numbers that training reports."""

from __future__ import annotations

import math

import pytest
import torch

from components.training.metrics import (
    Machine,
    Mean,
    Window,
    bits_per_byte,
    describe,
    peak_memory,
    speed,
    time_shares,
)
from components.training.reporting import Reporter
from tests.components.training.toy import ToyTask, journal, make_toy, run

WINDOW = Window(steps=10, tokens=20_000, step_s=4.0, wait_s=0.5, session_s=5.0)
FLOPS = {"palm": 3e9, "causal": 2.5e9}


def test_a_mean_is_over_units_and_starts_anew_when_taken():
    mean = Mean()
    mean.add(6.0, 2)
    mean.add(4.0, 8)
    assert mean.take() == 1.0
    assert math.isnan(mean.take())


def test_a_byte_guessed_uniformly_costs_eight_bits():
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8.0)


def test_the_note_names_loss_score_rate_and_skipped_steps():
    assert (
        describe(3.4123, 9.2e-4, 1, {"step": 100, "val_bpb": 1.6249}) == "loss 3.412  bpb 1.625  lr 9.2e-04  skipped 1"
    )


def test_speed_counts_time_inside_steps_alone():
    assert speed(WINDOW, Machine({}, None, None, 1)) == {"tokens_per_second": 5000.0}


def test_mfu_is_told_in_both_conventions_and_over_all_devices():
    told = speed(WINDOW, Machine(FLOPS, peak=1e13, gemm=8e12, devices=3))
    assert told["mfu"] == pytest.approx(5000 * 3e9 / 3 / 1e13)
    assert told["mfu_causal"] == pytest.approx(5000 * 2.5e9 / 3 / 1e13)
    assert told["gemm_share"] == pytest.approx(5000 * 3e9 / 3 / 8e12)


def test_an_unknown_peak_or_cost_leaves_its_share_out():
    assert set(speed(WINDOW, Machine(FLOPS, None, None, 1))) == {"tokens_per_second"}
    assert set(speed(WINDOW, Machine({}, 1e13, 1e13, 1))) == {"tokens_per_second"}
    assert set(speed(WINDOW, Machine(FLOPS, None, 1e13, 1))) == {"tokens_per_second", "gemm_share"}


def test_time_is_told_as_shares_and_as_what_is_left():
    told = time_shares(WINDOW, steps_left=30, useful_s=60.0, wall_s=80.0)
    assert told == {"data_wait_share": 0.125, "goodput": 0.75, "eta_s": 15.0}
    assert time_shares(Window(0, 0, 0.0, 0.0, 0.0), 30, 0.0, 0.0) == {}


def test_memory_is_the_peak_of_this_process():
    before = peak_memory(torch.device("cpu"))["memory_gib"]
    block = torch.ones(2**26)  # 256 MiB
    after = peak_memory(torch.device("cpu"))["memory_gib"]
    assert after >= before
    assert 0.25 <= after < 64
    assert block[-1] == 1


class Clock:
    """Goes on by what it is told, and by a second for every reading."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class Priced(ToyTask):
    """Knows what a token costs and how much text stands behind it."""

    def flops_per_token(self, convention):
        return FLOPS[convention]

    def bytes_per_unit(self):
        return 4.0


def test_a_line_covers_the_time_since_the_line_before(vary, rank, tmp_path):
    reporter = Reporter(rank, vary(steps=30), Clock(), wall_before_s=90.0)  # began at 1
    engine = make_toy(vary(), rank)
    reporter.count(1, 100, step_s=2.0, wait_s=0.5)  # the first step ended at 2
    reporter.count(1, 100, step_s=2.0, wait_s=0.5)
    reporter.line({"loss": 3.0}, 2, useful_s=4.0, engine=engine)  # at 3; wall read at 4
    reporter.count(3, 50, step_s=1.0, wait_s=0.0)
    reporter.line({}, 3, useful_s=5.0, engine=engine)  # at 5; wall at 6
    start, first, second = (line["values"] for line in journal(tmp_path, "metrics"))
    assert start == {"first_step_s": 1.0}
    assert first["loss"] == 3.0
    assert first["tokens_per_second"] == 50.0
    assert first["data_wait_share"] == 0.25
    assert first["eta_s"] == 28 * (3 - 1) / 2
    assert first["goodput"] == pytest.approx(4 / (90 + 3))
    assert second["tokens_per_second"] == 50.0
    assert second["eta_s"] == 27 * 2
    assert second["goodput"] == pytest.approx(5 / (90 + 5))


def test_a_training_tells_bits_per_byte_and_says_why_there_is_no_mfu(vary, rank, tmp_path):
    from components.training.loop import train

    one = vary(steps=4, measure_peak=True)
    train(rank, one, make_toy(one, rank), Priced(one), tmp_path)
    lines = [line["values"] for line in journal(tmp_path, "metrics") if "loss" in line["values"]]
    for line in lines:
        assert line["bits_per_byte"] == pytest.approx(line["loss"] / math.log(2) / 4)
        assert line["gemm_share"] > 0
        assert "mfu" not in line
    said = [line["text"] for line in journal(tmp_path, "text")]
    assert said == ["mfu is left out: no peak is known for the device 'cpu'"]


def test_a_run_has_at_most_forty_metrics(vary, rank, tmp_path):
    one = vary(steps=24, spike="skip", spike_window=8, measure_peak=True)
    run(one, rank, tmp_path, Priced(one, poisoned=[5], spiking=[20]))
    keys = {name for line in journal(tmp_path, "metrics") for name in line["values"]}
    assert {"skipped", "spikes", "loss", "val_loss", "checkpoint_stall_s", "first_step_s"} <= keys
    assert len(keys) <= 30


def test_goodput_pays_for_a_crash(vary, rank, tmp_path):
    one = vary(steps=12, checkpoint_every=5)
    with pytest.raises(ConnectionResetError):
        run(one, rank, tmp_path, ToyTask(one, crash_at=9))
    result, _ = run(one, rank, tmp_path)
    assert result.counts["repeated"] == 9 - 5
    assert 0 < result.goodput < 1
