"""The command line: parse, dispatch, and turn every failure into three lines and an exit code.

Nothing heavy is imported here, so that `headwater --help` answers at once; each verb imports what it needs. Hydra
overrides follow any verb as plain `key=value` words, in any place among the options.

Exit codes: 0 done, 1 failed, 2 bad config, 3 stopped and resumable, 4 environment.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from components.errors import HeadwaterError, MachineError, Preempted

if TYPE_CHECKING:
    Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

OVERRIDES = "settings as key=value, such as preset=small clean.min_chars=200; `headwater config show` lists them"
ARTIFACT = "STEP of the newest run, STEP@KEY with the first characters of its key, RUN:STEP, or a path in the store"
_OVERRIDE = re.compile(r"[+~]*[A-Za-z_][\w./@-]*=")

_OWN = (
    "accept",
    "artifacts",
    "chat",
    "data",
    "diff",
    "estimate",
    "explain",
    "export",
    "graph",
    "lineage",
    "run",
    "schedule",
    "submit",
)
VERBS = {name: (name, name) for name in _OWN}
VERBS |= {name: ("resume", name) for name in ("resume", "retry", "cancel", "attach")}
"""Module and function of a verb below `pipelines.verbs`; those that are not here are in `show`."""


def make_parser() -> argparse.ArgumentParser:
    """The whole surface of the command line; a test freezes it."""
    parser = argparse.ArgumentParser(
        prog="headwater",
        description="From web pages to an aligned language model in one command, as one resumable DAG.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_running(verbs)
    _add_looking(verbs)
    _add_artifacts(verbs)
    _add_data(verbs)
    _add_models(verbs)
    _add_schedule(verbs)
    config = _verb(verbs, "config", "show the composed configuration")
    config.add_argument("action", choices=("show",), help="show: print every setting and its value")
    return parser


def _add_running(verbs: Verbs) -> None:
    run = _verb(verbs, "run", "run the recipe; finished steps are reused, interrupted ones continue")
    run.add_argument("--run-id", metavar="ID", help="name of the run; made up when not given")
    _add_selectors(run)
    submit = _verb(verbs, "submit", "ship the code to a running Ray cluster and run the recipe there")
    submit.add_argument("--run-id", metavar="ID", help="name of the run; made up when not given")
    submit.add_argument("--resume", metavar="RUN", help="go on with this run on the cluster, instead of a new one")
    submit.add_argument("--wait", action="store_true", help="follow the run and end with its exit code")
    _add_selectors(submit)
    resume = _verb(verbs, "resume", "go on with a run that stopped, failed or lost its driver, as the same run")
    resume.add_argument("run", nargs="?", metavar="RUN", help="which run; the newest when not given")
    _add_selectors(resume)
    retry = _verb(verbs, "retry", "start a new run with the settings of an earlier one")
    retry.add_argument("run", nargs="?", metavar="RUN", help="which run; the newest when not given")
    _add_selectors(retry)
    cancel = _verb(verbs, "cancel", "stop a run, or steps of it; what is finished stays")
    cancel.add_argument("run", metavar="RUN", help="which run")
    cancel.add_argument("steps", nargs="*", metavar="STEP", help="steps to stop; the whole run when not given")
    attach = _verb(verbs, "attach", "follow a run to its end, as if it had been started here")
    attach.add_argument("run", nargs="?", metavar="RUN", help="which run; the newest when not given")


def _add_looking(verbs: Verbs) -> None:
    plan = _verb(verbs, "plan", "list the steps as cached or to run, with the reason; run nothing")
    _add_selectors(plan)
    _verb(verbs, "estimate", "tell how large the models of the recipe are, what training takes, and whether it fits")
    explain = _verb(verbs, "explain", "tell all that is known of one step of the plan")
    explain.add_argument("step", metavar="STEP", help="name of the step")
    _add_selectors(explain)
    graph = _verb(verbs, "graph", "draw the steps and what each reads")
    graph.add_argument("--format", default="text", choices=("text", "mermaid", "svg"), help="form (default text)")
    graph.add_argument("--output", metavar="FILE", help="write it to a file instead of printing it")
    graph.add_argument("--run-id", metavar="ID", help="a run as it stands, instead of the plan")
    _add_selectors(graph)
    diff = _verb(verbs, "diff", "compare two runs: settings, code, keys and why, times, metrics")
    diff.add_argument("runs", nargs=2, metavar="RUN", help="the earlier and the later one")
    lineage = _verb(verbs, "lineage", "tell what an artifact was made of, or what was made of it")
    lineage.add_argument("artifact", metavar="ARTIFACT", help=ARTIFACT)
    direction = lineage.add_mutually_exclusive_group()
    direction.add_argument("--up", action="store_true", help="what it was made of (the default)")
    direction.add_argument("--down", action="store_true", help="what was made of it")
    status = _verb(verbs, "status", "show how a run stands")
    status.add_argument("--run-id", metavar="ID", help="which run; the newest when not given")
    status.add_argument("-w", "--watch", action="store_true", help="go on until the run ends")
    logs = _verb(verbs, "logs", "print what a step wrote")
    logs.add_argument("step", metavar="STEP", help="name of the step")
    logs.add_argument("--run-id", metavar="ID", help="which run; the newest that ran the step when not given")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    ui = _verb(verbs, "ui", "open the MLflow UI on the runs of this store")
    ui.add_argument("--port", type=int, default=5000, help="port to listen on (default 5000)")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on (default loopback)")
    ui.add_argument("--allow-public", action="store_true", help="allow a --host that other machines can reach")


def _add_artifacts(verbs: Verbs) -> None:
    accept = _verb(verbs, "accept", "declare artifacts valid for the code as it is now, where only code differs")
    accept.add_argument("steps", nargs="+", metavar="STEP", help="steps whose newest artifact is accepted")
    accept.add_argument("--reason", default="", metavar="TEXT", help="why; it is kept with the artifact")
    artifacts = verbs.add_parser("artifacts", help="list, check, keep and delete what the store holds")
    actions = artifacts.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = _verb(actions, "ls", "list artifacts")
    listed.add_argument("step", nargs="?", metavar="STEP", help="of this step alone")
    listed.add_argument("--all", action="store_true", help="superseded ones too")
    show = _verb(actions, "show", "print the manifest of an artifact")
    show.add_argument("artifact", metavar="ARTIFACT", help=ARTIFACT)
    verify = _verb(actions, "verify", "compare the bytes of artifacts with their hashes")
    verify.add_argument("artifacts", nargs="*", metavar="ARTIFACT", help=f"{ARTIFACT}; all when none is given")
    pin = _verb(actions, "pin", "keep an artifact, and all it was made of, from being collected")
    pin.add_argument("artifact", metavar="ARTIFACT", help=ARTIFACT)
    pin.add_argument("--name", required=True, metavar="NAME", help="name of the pin")
    pin.add_argument("--reason", default="", metavar="TEXT", help="why")
    unpin = _verb(actions, "unpin", "remove a pin")
    unpin.add_argument("name", metavar="NAME", help="name of the pin")
    collect = _verb(actions, "gc", "list what nothing needs any more, with its size; delete it with --apply")
    collect.add_argument("--apply", action="store_true", help="delete it")
    collect.add_argument("--keep-runs", type=int, default=10, metavar="N", help="newest runs to keep (default 10)")
    collect.add_argument("--older-than", type=float, default=0.0, metavar="DAYS", help="only older ones (default 0)")
    adopt = _verb(actions, "adopt", "take files made elsewhere as the artifact of a step as it is planned now")
    adopt.add_argument("step", metavar="STEP", help="name of the step")
    adopt.add_argument("folder", metavar="FOLDER", help="the files")
    adopt.add_argument("--reason", required=True, metavar="TEXT", help="where they come from")


def _add_data(verbs: Verbs) -> None:
    data = verbs.add_parser("data", help="look into the corpus: documents, what was dropped and why, thresholds")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    peek = _verb(actions, "peek", "show documents of a step, or what it dropped")
    peek.add_argument("artifact", nargs="?", metavar="ARTIFACT", help=f"{ARTIFACT}; the corpus when not given")
    peek.add_argument("--num", type=int, default=5, metavar="N", help="how many (default 5)")
    peek.add_argument("--lang", metavar="CODE", help="of this language alone")
    peek.add_argument("--dropped", nargs="?", const="", metavar="RULE", help="what was dropped, or by this rule alone")
    peek.add_argument("--where", metavar="TEXT", help="with this text in URL, title or text")
    why = _verb(actions, "why", "tell what became of a document, or which documents a training step saw")
    why.add_argument("document", nargs="?", metavar="URL-or-ID", help="its URL, or its id or the beginning of it")
    why.add_argument("--step", type=int, metavar="N", help="the documents of this optimizer step instead")
    why.add_argument("--run-id", metavar="ID", help="which run; the newest with documents when not given")
    forget = _verb(actions, "forget", "list all that documents or hosts touch; have them dropped with --apply")
    forget.add_argument("targets", nargs="+", metavar="URL-HOST-or-ID", help="documents or hosts")
    forget.add_argument("--apply", action="store_true", help="enter them in the opt-out list of the workspace")
    forget.add_argument("--rewrite", action="store_true", help="--apply, and make the corpus anew without them at once")
    verify = _verb(actions, "verify", "check that nothing vanished: counts, order, places, hashes, splits")
    verify.add_argument("artifacts", nargs="*", metavar="ARTIFACT", help=f"{ARTIFACT}; a whole run when none is given")
    verify.add_argument("--run-id", metavar="ID", help="which run; the newest with documents when not given")
    stats = _verb(actions, "stats", "count documents: funnel, languages, sources, hosts, licences, lengths, tokens")
    stats.add_argument("artifact", nargs="?", metavar="ARTIFACT", help=f"{ARTIFACT}; the whole path when not given")
    stats.add_argument("--run-id", metavar="ID", help="which run; the newest with documents when not given")
    tune = _verb(actions, "tune", "move the threshold of a rule on the stored scores, and see what would change")
    tune.add_argument("rule", nargs="?", metavar="RULE", help="name of the rule; all rules are listed when not given")
    tune.add_argument("value", nargs="?", metavar="VALUE", help="the new threshold; the present one when not given")
    tune.add_argument("--num", type=int, default=10, metavar="N", help="samples newly kept and newly dropped (10)")
    tune.add_argument("--run-id", metavar="ID", help="which run; the newest with scores when not given")


def _add_models(verbs: Verbs) -> None:
    chat = _verb(verbs, "chat", "talk to a trained model")
    chat.add_argument("-m", "--message", metavar="TEXT", help="say one thing, print the reply and end")
    chat.add_argument("--stage", default="ppo", choices=("ppo", "sft", "pretrain"), help="which model (default ppo)")
    chat.add_argument("--model", metavar="FOLDER", help="a model folder instead of a stage of the newest run")
    chat.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (default 0.7)")
    chat.add_argument("--seed", type=int, default=0, help="seed of the sampling (default 0)")
    export = _verb(verbs, "export", "write a trained model as a Hugging Face folder for others, and read it back")
    export.add_argument("artifact", metavar="ARTIFACT", help=f"{ARTIFACT}; or a model folder")
    export.add_argument("folder", metavar="FOLDER", help="where to; must be new or empty")
    export.add_argument("--dtype", default="fp32", choices=("fp32", "bf16", "fp16"), help="of weights (default fp32)")
    export.add_argument(
        "--shard-bytes", type=int, default=5_000_000_000, metavar="N", help="most bytes of a file (default 5 GB)"
    )


def _add_schedule(verbs: Verbs) -> None:
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


def _add_selectors(verb: argparse.ArgumentParser) -> None:
    """Which steps may run. Each option may be repeated, and its names separated by commas."""
    group = verb.add_argument_group(
        "steps", "names, separated by commas; +STEP is it and all it needs, STEP+ all below"
    )
    options = {
        "--from": ("start", "only these steps and all below them"),
        "--until": ("until", "only these steps and all they need"),
        "--only": ("only", "only these steps"),
        "--skip": ("skip", "leave these steps out, and what needs them unless they are cached"),
        "--force": ("force", "run these steps although they are cached"),
        "--force-downstream": ("force_downstream", "run these steps and all below them although they are cached"),
    }
    for option, (name, text) in options.items():
        group.add_argument(option, dest=name, action="append", metavar="STEP", help=text)


def _verb(verbs: Verbs, name: str, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=OVERRIDES)
    verb.add_argument("--json", action="store_true", help="print JSON for programs")
    return verb


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `headwater` command; returns the exit code."""
    parser = make_parser()
    words, overrides = split_overrides(parser, sys.argv[1:] if arguments is None else arguments)
    options, rest = parser.parse_known_args(words)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        parser.error(f"unknown option {' '.join(unknown)}")
    try:
        return dispatch(options, [*rest, *overrides])
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


def split_overrides(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tells settings from the words of a verb, which would take them for its own where it takes any number."""
    takes_value = set(_options_with_value(parser))
    kept: list[str] = []
    overrides: list[str] = []
    value = False
    for word in words:
        if not value and _OVERRIDE.match(word):
            overrides.append(word)
            continue
        kept.append(word)
        value = not value and word.startswith("-") and any(option.startswith(word) for option in takes_value)
    return kept, overrides


def _options_with_value(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _options_with_value(child)
        elif action.nargs is None:
            yield from action.option_strings


def dispatch(options: argparse.Namespace, overrides: list[str]) -> int:
    """Calls the verb."""
    module, function = VERBS.get(options.verb, ("show", f"show_{options.verb}"))
    verb = getattr(importlib.import_module(f"pipelines.verbs.{module}"), function)
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
