"""`headwater submit`: the same run on a running Ray cluster, through its Jobs API.

Only the three source folders travel (about a megabyte); the cluster's machines have the dependencies installed. Token
authentication is always on: the token comes from RAY_AUTH_TOKEN, the file named by RAY_AUTH_TOKEN_PATH, or
~/.ray/auth_token. The run id is the job's submission id, so submitting one twice is refused instead of run twice; a run
that is resumed gets the number of its session behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigError, MachineError
from pipelines.config import Settings, load_settings
from pipelines.engine.events import latest_session, read_events
from pipelines.engine.select import EVERYTHING, Selection
from pipelines.runs import find_run, new_run_id
from pipelines.verbs.planning import selection_of

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("components", "pipelines", "conf")


def submit(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Ships the code, starts the run as a job and prints its run id; with `wait` follows it and returns its code."""
    settings = load_settings(overrides)
    client = connect(settings.cluster.dashboard)
    selection = selection_of(options)
    if options.resume:
        name = options.resume
        job = resume_job(client, settings, overrides, find_run(settings.folder, name), selection)
    else:
        job = name = start_job(client, settings, overrides, options.run_id, selection)
    record = {"run": name, "job": job, "dashboard": settings.cluster.dashboard}
    print(json.dumps(record) if options.json else f"submitted run {name}")
    return follow(client, job) if options.wait else 0


def start_job(
    client: JobSubmissionClient,
    settings: Settings,
    overrides: Sequence[str],
    run_id: str | None,
    selection: Selection = EVERYTHING,
) -> str:
    """Starts the job and returns the run id.

    Raises:
        ConfigError: If a job of that id was submitted before.
        MachineError: If the cluster refuses the job for any other reason.
    """
    name = run_id or new_run_id(settings.folder)
    _start(client, settings, name, ["run", "--run-id", name, *selection.words()], overrides)
    return name


def resume_job(
    client: JobSubmissionClient, settings: Settings, overrides: Sequence[str], folder: Path, selection: Selection
) -> str:
    """Goes on with a run as a new job and returns the job's id: the run's, and the number of its session.

    Raises:
        ConfigError: If that was submitted before.
        MachineError: If the cluster refuses the job for any other reason.
    """
    session = latest_session(read_events(folder)) + 1
    job = f"{folder.name}.{session}"
    _start(client, settings, job, ["resume", folder.name, *selection.words()], overrides)
    return job


def _start(
    client: JobSubmissionClient, settings: Settings, name: str, verb: Sequence[str], overrides: Sequence[str]
) -> None:
    words = [settings.cluster.python, "-m", "pipelines.cli", *verb]
    words += [word for word in overrides if not word.startswith(("cluster=", "cluster.kind=", "store=", "workspace="))]
    words += ["cluster=ray", f"store={settings.store}", f"workspace={settings.folder}"]
    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        for package in PACKAGES:
            shutil.copytree(ROOT / package, Path(folder) / package, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            client.submit_job(
                entrypoint=shlex.join(words),
                submission_id=name,
                runtime_env={"working_dir": folder, "env_vars": {"PYTHONUNBUFFERED": "1"}},
                metadata={"headwater_run": name},
            )
        except RuntimeError as error:
            if "already exists" in str(error):
                raise ConfigError(f"run {name} was submitted before.", "--run-id", "choose another id") from error
            raise MachineError(f"the cluster refused the job: {str(error).splitlines()[0]}", name) from error


def connect(dashboard: str) -> JobSubmissionClient:
    """A Jobs client that authenticates with the cluster's token.

    Raises:
        MachineError: If nothing answers there, or the token is missing or wrong.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(dashboard)
    except AuthenticationError as error:
        raise MachineError(
            f"the cluster at {dashboard} does not accept the token.",
            "RAY_AUTH_TOKEN, the file named by RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token",
            "put the cluster's token into one of them",
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise MachineError(
            f"no Ray cluster answers at {dashboard}.",
            f"cluster.dashboard={dashboard}",
            "start one with infra/ray-head.sh, or set cluster.dashboard to the address of its dashboard",
        ) from error


def follow(client: JobSubmissionClient, name: str) -> int:
    """Prints what the job prints until it ends; returns the exit code of its driver."""
    import asyncio

    async def tail() -> None:
        async for lines in client.tail_job_logs(name):
            sys.stdout.write(lines)
            sys.stdout.flush()

    asyncio.run(tail())
    info = client.get_job_info(name)
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    return 0 if str(info.status) == "SUCCEEDED" else 1
