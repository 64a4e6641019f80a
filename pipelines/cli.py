"""The command line: parse, dispatch, and turn every failure into three lines and an exit code.

Nothing heavy is imported here, so that `headwater --help` answers at once; each verb imports what it needs. Hydra
overrides follow any verb as plain `key=value` words, in any place among the options.

Exit codes: 0 done, 1 failed, 2 bad config, 3 stopped and resumable, 4 environment.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Sequence

from components.errors import HeadwaterError, MachineError, Preempted

OVERRIDES = "settings as key=value, such as preset=small clean.min_chars=200; `headwater config show` lists them"


def make_parser() -> argparse.ArgumentParser:
    """The whole surface of the command line; a test freezes it."""
    parser = argparse.ArgumentParser(
        prog="headwater",
        description="From web pages to an aligned language model in one command, as one resumable DAG.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    run = _verb(verbs, "run", "run the recipe; finished steps are reused, interrupted ones continue")
    run.add_argument("--run-id", metavar="ID", help="name of the run; made up when not given")
    _verb(verbs, "plan", "list the steps as cached or to run, with the reason; run nothing")
    status = _verb(verbs, "status", "show how a run stands")
    status.add_argument("--run-id", metavar="ID", help="which run; the newest when not given")
    logs = _verb(verbs, "logs", "print what a step wrote")
    logs.add_argument("step", help="name of the step")
    logs.add_argument("--run-id", metavar="ID", help="which run; the newest that ran the step when not given")
    ui = _verb(verbs, "ui", "open the MLflow UI on the runs of this store")
    ui.add_argument("--port", type=int, default=5000, help="port to listen on (default 5000)")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on (default loopback)")
    ui.add_argument("--allow-public", action="store_true", help="allow a --host that other machines can reach")
    chat = _verb(verbs, "chat", "talk to a trained model")
    chat.add_argument("-m", "--message", metavar="TEXT", help="say one thing, print the reply and end")
    chat.add_argument("--stage", default="ppo", choices=("ppo", "sft", "pretrain"), help="which model (default ppo)")
    chat.add_argument("--model", metavar="FOLDER", help="a model folder instead of a stage of the newest run")
    chat.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (default 0.7)")
    chat.add_argument("--seed", type=int, default=0, help="seed of the sampling (default 0)")
    submit = _verb(verbs, "submit", "ship the code to a running Ray cluster and run the recipe there")
    submit.add_argument("--run-id", metavar="ID", help="name of the run; made up when not given")
    submit.add_argument("--wait", action="store_true", help="follow the run and end with its exit code")
    _add_schedule(verbs)
    config = _verb(verbs, "config", "show the composed configuration")
    config.add_argument("action", choices=("show",), help="show: print every setting and its value")
    return parser


def _add_schedule(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    schedule = verbs.add_parser("schedule", help="run the recipe at set times")
    actions = schedule.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = _verb(actions, "add", "keep a schedule in the store, or change it")
    add.add_argument("name", help="name of the schedule")
    add.add_argument("--cron", required=True, metavar="TEXT", help='five fields, such as "0 3 * * 1"')
    add.add_argument("--tz", default="UTC", metavar="ZONE", help="time zone, such as Asia/Shanghai (default UTC)")
    add.add_argument("--submit", action="store_true", help="submit to the Ray cluster instead of running here")
    _verb(actions, "ls", "list the schedules, their next and last ticks")
    remove = _verb(actions, "rm", "remove a schedule; its record of ticks stays")
    remove.add_argument("name", help="name of the schedule")
    _verb(actions, "serve", "run or submit at each tick until interrupted")


def _verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=OVERRIDES)
    verb.add_argument("--json", action="store_true", help="print JSON for programs")
    return verb


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `headwater` command; returns the exit code."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        parser.error(f"unknown option {' '.join(unknown)}")
    try:
        return dispatch(options, rest)
    except HeadwaterError as error:
        return report(error, as_json=getattr(options, "json", False))
    except KeyboardInterrupt:
        return report(Preempted("interrupted.", fix="the same command again continues"), as_json=False)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        where = str(error.filename or "")
        return report(
            MachineError(
                f"{error.strerror or error}.", where, "free space or choose another store=FOLDER, then run again"
            ),
            as_json=False,
        )


def dispatch(options: argparse.Namespace, overrides: list[str]) -> int:
    """Calls the verb."""
    if options.verb == "run":
        from pipelines.verbs.run import run

        return run(overrides, run_id=options.run_id, as_json=options.json)
    if options.verb == "submit":
        from pipelines.verbs.submit import submit

        return submit(overrides, run_id=options.run_id, wait=options.wait, as_json=options.json)
    if options.verb == "chat":
        from pipelines.verbs.chat import chat

        return chat(overrides, options)
    if options.verb == "schedule":
        from pipelines.verbs.schedule import schedule

        return schedule(overrides, options)
    from pipelines.verbs import show

    verb = getattr(show, f"show_{options.verb}")
    code: int = verb(overrides, options)
    return code


def report(error: HeadwaterError, as_json: bool) -> int:
    """Prints a failure for a person on stderr, or for a program on stdout; returns its exit code."""
    if as_json:
        record = {"error": error.what, "where": error.where, "fix": error.fix, "exit_code": error.exit_code}
        print(json.dumps(record, ensure_ascii=False))
    else:
        print(f"headwater: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
