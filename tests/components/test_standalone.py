"""Any step runs alone, from a checked command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import toy_steps as toy
from toy_steps import ToyConfig

from components.errors import ConfigError
from components.standalone import build_config, main, run_alone


@dataclass(frozen=True)
class Every:
    """One field of each allowed type."""

    flag: bool = False
    count: int = 1
    ratio: float = 0.5
    name: str = "a"
    limit: int | None = None
    names: tuple[str, ...] = ()
    pairs: dict[str, str] = field(default_factory=dict)
    inner: toy.Inner = field(default_factory=toy.Inner)


def test_the_config_is_file_then_settings(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"text": "x", "count": 2, "inner": {"depth": 5}}))
    out = tmp_path / "out"
    metrics = run_alone(
        toy.source, ToyConfig, ["--config", str(tmp_path / "config.json"), "--output", str(out), "source.count=4"]
    )
    assert metrics == {"letters": 4}
    assert (out / "output" / "part" / "text.txt").read_text() == "xxxx"
    assert json.loads((out / "metrics.json").read_text()) == {"letters": 4}


def test_settings_and_options_come_in_any_order(tmp_path: Path):
    out = str(tmp_path / "out")
    assert run_alone(toy.source, ToyConfig, ["count=4", "--output", out, "text=x"]) == {"letters": 4}


def test_inputs_are_paths_by_name(tmp_path: Path):
    run_alone(toy.source, ToyConfig, ["--output", str(tmp_path / "a")])
    one = f"left={tmp_path / 'a' / 'output'}"
    assert run_alone(toy.join, ToyConfig, ["--input", one, "--output", str(tmp_path / "b")]) == {"parts": 1}
    assert run_alone(toy.join, ToyConfig, [one, "--output", str(tmp_path / "c")]) == {"parts": 1}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"flag": "true", "count": "7", "ratio": "1e-3"}, Every(flag=True, count=7, ratio=0.001)),
        ({"ratio": 2, "name": "7"}, Every(ratio=2.0, name="7")),
        ({"ratio": ".5"}, Every(ratio=0.5)),
        ({"limit": "3"}, Every(limit=3)),
        ({"limit": "null"}, Every(limit=None)),
        ({"names": "[a, b]"}, Every(names=("a", "b"))),
        ({"names": '["a, b", "c"]'}, Every(names=("a, b", "c"))),
        ({"names": ["a"]}, Every(names=("a",))),
        ({"pairs": '{"a": "b"}'}, Every(pairs={"a": "b"})),
        ({"inner": {"depth": "3"}}, Every(inner=toy.Inner(depth=3))),
    ],
)
def test_text_is_read_as_the_type_of_its_field(settings: dict, expected: Every):
    built = build_config(Every, settings, "every")
    assert built == expected
    assert type(built.ratio) is float  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"count": "many"}, "every.count=many is no whole number."),
        ({"count": "1.5"}, "every.count=1.5 is no whole number."),
        ({"count": True}, "every.count=True is no whole number."),
        ({"flag": "1"}, "every.flag=1 is no true or false."),
        ({"limit": "x"}, "every.limit=x is no whole number."),
        ({"inner": "3"}, "every.inner=3 is no"),
        ({"pairs": "a"}, "every.pairs=a is no"),
        ({"inner": {"depht": "3"}}, "There is no key every.inner.depht."),
    ],
)
def test_values_of_the_wrong_type_are_refused_by_key(settings: dict, sentence: str):
    with pytest.raises(ConfigError) as caught:
        build_config(Every, settings, "every")
    assert caught.value.what.startswith(sentence)


def test_an_unknown_key_gets_the_nearest_one():
    with pytest.raises(ConfigError) as caught:
        build_config(Every, {"cuont": 1}, "every")
    assert caught.value.fix == "did you mean count?"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "join misses its input left."),
        (["--input", "lefd=x"], "join has no input lefd."),
        (["--input", "left=ghost"], "There is nothing at ghost."),
        (["oops"], '"oops" is no setting.'),
        (["--config", "ghost.json"], "ghost.json cannot be read: No such file or directory."),
    ],
)
def test_a_command_line_that_does_not_fit_exits_with_2(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(toy.join, ToyConfig, arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"join: {sentence}")


@pytest.mark.parametrize(("step", "code"), [(toy.source, 0), (toy.bad_data, 1), (toy.full_disk, 4)])
def test_exit_codes(step: object, code: int, tmp_path: Path):
    with pytest.raises(SystemExit) as caught:
        main(step, ToyConfig, ["--output", str(tmp_path / "out")])  # type: ignore[arg-type]
    assert caught.value.code == code


def test_a_defect_is_not_dressed_up(tmp_path: Path):
    with pytest.raises(ZeroDivisionError):
        main(toy.defect, ToyConfig, ["--output", str(tmp_path / "out")])


def test_other_peoples_folders_are_left_alone(tmp_path: Path):
    (tmp_path / "precious").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        run_alone(toy.source, ToyConfig, ["--output", str(tmp_path)])


def test_a_finished_output_is_not_overwritten(tmp_path: Path):
    arguments = ["--output", str(tmp_path / "out")]
    run_alone(toy.source, ToyConfig, arguments)
    with pytest.raises(ConfigError, match="holds a finished output"):
        run_alone(toy.source, ToyConfig, arguments)


def test_help_shows_the_story_the_inputs_and_the_config(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(toy.join, ToyConfig, ["--help"])
    text = capsys.readouterr().out
    assert "Joins the texts of its inputs." in text
    assert "inputs: left, right" in text
    assert "One field of each kind." in text


def test_a_signal_lets_the_step_save_and_the_same_command_goes_on(tmp_path: Path):
    program = "import toy_steps as toy; from components.standalone import main; main(toy.counting, toy.ToyConfig)"
    command = [sys.executable, "-c", program, "--output", str(tmp_path / "out"), "count=60"]
    saved = tmp_path / "out" / "scratch" / "count"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not saved.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 3
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["started_at"] > 0


def test_running_alone_needs_no_orchestrator(tmp_path: Path):
    program = (
        "import sys, toy_steps as toy\nfrom components.standalone import run_alone\n"
        "run_alone(toy.source, toy.ToyConfig, ['--output', sys.argv[1]])\n"
        "assert not {'ray', 'mlflow', 'hydra', 'torch', 'pipelines'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], check=True)
