"""The command line: what it refuses, how it says so, and with which exit code; nothing here starts a step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import main, make_parser, split_overrides
from pipelines.verbs.planning import selection_of


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"store={tmp_path / 'store'}"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom pipelines.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n"
        "    heavy = {'torch', 'ray', 'mlflow', 'hydra', 'pyarrow', 'numpy', 'rich', 'yaml'} & set(sys.modules)\n"
        "    sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "submit" in done.stdout


@pytest.mark.parametrize(
    ("override", "sentence", "fix"),
    [
        ("clean.min_char=100", "there is no setting 'clean.min_char'", "clean.min_chars=100"),
        ("pretrain.training.step=5", "there is no setting", "pretrain.training.steps=5"),
        ("preset=tinny", "there is no preset 'tinny'", "preset=tiny"),
        ("pretrain.model.dim=abc", "pretrain.model.dim=abc", "headwater config show"),
        ("pretrain.model.dim=190", "must be an even multiple of pretrain.model.num_heads", "pretrain.model.dim="),
        ("source.kind=ftp", "must be one of sample, crawl, warc, files", "source.kind=sample"),
        ("source.instructions=/", "is not a file", "source.instructions=path to a file"),
        ("source.benchmarks=/no/such/place", "does not exist", "source.benchmarks=null"),
        ("justaword", "is not an override", "KEY=VALUE"),
        ("pretrain.length=100000", "at most pretrain.model.max_length", "pretrain.length="),
        ("pretrain.training.zero_stage=7", "must be 0, 1, 2 or 3", "zero_stage=1"),
        ("pretrain.training.engine=plain", "needs pretrain.training.engine=deepspeed", "pretrain.training.ranks=1"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_key_and_the_fix(
    override: str, sentence: str, fix: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", override, store]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert fix in said
    assert "Traceback" not in said


def test_a_refusal_comes_before_ray_or_torch_is_imported(store: str) -> None:
    script = (
        "import sys\nfrom pipelines.cli import main\n"
        f"code = main(['run', 'clean.min_char=1', {store!r}])\n"
        "heavy = {'torch', 'ray', 'mlflow'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy or code != 2 else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_crawl_without_preference_file_is_refused(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plan", "source=crawl", "source.seeds=[https://example.org/]", store])
    assert code == 2
    assert "source.instructions" in capsys.readouterr().err


def test_the_plan_of_an_empty_store_runs_every_step_and_imports_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pipelines.cli import main\n"
        f"code = main(['plan', '--json', 'store={tmp_path / 's'}'])\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pyarrow', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)["steps"]
    assert [step["step"] for step in steps if step["state"] != "runs"] == []
    assert {"crawl", "pretrain", "ppo", "evaluate"} <= {step["step"] for step in steps}


def test_an_unknown_step_of_logs_names_what_there_is(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "nothing", store]) == 2
    assert "no log of step nothing" in capsys.readouterr().err


def test_status_without_a_run_says_how_to_make_one(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", store]) == 2
    assert "headwater run" in capsys.readouterr().err


def test_chat_without_a_model_says_how_to_make_one(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "-m", "hello", store]) == 2
    assert "headwater run" in capsys.readouterr().err


def test_a_refusal_is_json_for_programs(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--json", "preset=tinny", store]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_a_store_that_cannot_be_written_is_an_environment_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "store=/proc/headwater"]) == 4
    assert "/proc/headwater" in capsys.readouterr().err


def test_schedules_are_added_listed_and_removed(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "add", "weekly", "--cron", "0 3 * * 1", "--tz", "Asia/Shanghai", store]) == 0
    capsys.readouterr()
    assert main(["schedule", "ls", "--json", store]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["cron"], row["tz"], row["next"][-6:]) == ("0 3 * * 1", "Asia/Shanghai", "+08:00")
    assert main(["schedule", "rm", "weekly", store]) == 0
    capsys.readouterr()
    assert main(["schedule", "ls", "--json", store]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_wrong_cron_text_is_refused(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "add", "weekly", "--cron", "0 3 * *", store]) == 2
    assert "fields" in capsys.readouterr().err


def test_submit_without_a_cluster_says_where_it_looked(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "cluster.dashboard=http://127.0.0.1:9", store]) == 4
    assert "http://127.0.0.1:9" in capsys.readouterr().err


def test_the_store_is_absolute_for_processes_with_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "show", "--json", "store=here"]) == 0
    assert json.loads(capsys.readouterr().out)["store"] == str(tmp_path / "here")


@pytest.mark.parametrize(
    ("words", "kept", "overrides"),
    [
        (["resume", "store=/x"], ["resume"], ["store=/x"]),
        (["resume", "store=/x", "amber-17"], ["resume", "amber-17"], ["store=/x"]),
        (["cancel", "amber-17", "clean", "a.b=c", "dedup"], ["cancel", "amber-17", "clean", "dedup"], ["a.b=c"]),
        (["accept", "clean", "--reason", "x=y"], ["accept", "clean", "--reason", "x=y"], []),
        (["accept", "clean", "--reason=x=y", "seed=1"], ["accept", "clean", "--reason=x=y"], ["seed=1"]),
        (["chat", "-m", "a=b", "seed=1"], ["chat", "-m", "a=b"], ["seed=1"]),
        (["plan", "--json", "+a=1", "~b=2"], ["plan", "--json"], ["+a=1", "~b=2"]),
        (["plan", "--only", "+dedup", "seed=1"], ["plan", "--only", "+dedup"], ["seed=1"]),
        (["artifacts", "verify", "store=/x"], ["artifacts", "verify"], ["store=/x"]),
    ],
)
def test_settings_are_told_from_words_of_the_verb(words: list[str], kept: list[str], overrides: list[str]) -> None:
    assert split_overrides(make_parser(), words) == (kept, overrides)


@pytest.mark.parametrize("verb", ["run", "plan", "submit", "resume", "retry", "graph"])
def test_the_verbs_that_plan_take_the_same_selectors(verb: str) -> None:
    words = ["--from", "a,b", "--from", "c", "--until=+d", "--only", "e+", "--skip", "f", "--force", "g"]
    options = make_parser().parse_args([verb, *words, "--force-downstream", "h"])
    selection = selection_of(options)
    assert selection.start == ("a", "b", "c")
    assert (selection.until, selection.only, selection.skip) == (("+d",), ("e+",), ("f",))
    assert (selection.force, selection.force_downstream) == (("g",), ("h",))


def test_every_verb_is_described_and_dispatched(store: str) -> None:
    import importlib

    from pipelines.cli import VERBS

    for module, function in VERBS.values():
        assert callable(getattr(importlib.import_module(f"pipelines.verbs.{module}"), function))
