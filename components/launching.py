"""Ranks without an orchestrator: one spawned process each, a gloo or NCCL group over loopback, one result back.

A failing rank ends the group: its error is re-raised here with the rank's number, so that nobody waits for a dead peer.
Also the set-up and tear-down of a process group, which the Ray launcher shares.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from components import errors
from components.channel import Channel
from components.context import Json, Rank, RankFunction, free_port, read_result, write_result
from components.errors import HeadwaterError, MachineError, disk_full
from components.heap import keep_memory
from components.publish import publish_new

GROUP_TIMEOUT = timedelta(minutes=10)
END_S = 30.0
"""How long ranks are given to end after a SIGTERM."""

_PR_SET_PDEATHSIG = 1
_AMD_DRIVER = Path("/dev/kfd")
_HUNG = "components.launching.RankHung: "
_SIOCGIFADDR = 0x8915


class RankLost(RuntimeError):  # noqa: N818  (a state, not a fault)
    """The process of a rank died without a word: killed, or its machine went away. Worth another attempt."""


class NodeLost(RankLost):
    """The machine of a rank went away. Worth another attempt, with fewer ranks if it does not come back."""


class RankHung(RankLost):
    """A rank made no step for too long and was ended by its watchdog."""


class NoRoom(MachineError):  # noqa: N818  (named as its siblings)
    """The ranks waited too long for their place."""


class RankFailed(RuntimeError):  # noqa: N818  (named as its sibling)
    """A rank raised something that is no error of ours. Its first line says what, the rest is the traceback."""


def prepare_process(device: str) -> None:
    """Settings every rank needs before it computes: one thread and the CPU accelerator, or its own GPU."""
    import torch

    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        torch.set_num_threads(1)
        keep_memory()
    else:
        torch.cuda.set_device(device)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True)
class Seat:
    """A rank's place in its group.

    Attributes:
        rank: Number of the rank.
        world_size: Ranks in the group.
        local_rank: Number of the rank on its machine.
        local_world_size: Ranks on that machine.
        address: Where rank 0 can be reached.
        port: The port it listens on.
        own_address: Address of this rank's machine; empty where all ranks are on one.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    address: str
    port: int
    own_address: str = ""


@contextmanager
def process_group(seat: Seat, device: str) -> Iterator[None]:
    """A process group (NCCL on CUDA, else gloo) for the time of the block.

    A larger group is left in peace when the block fails: leaving it could wait for peers that wait for this rank.
    """
    import torch.distributed as dist

    os.environ.update(
        RANK=str(seat.rank),
        LOCAL_RANK=str(seat.local_rank),
        WORLD_SIZE=str(seat.world_size),
        LOCAL_WORLD_SIZE=str(seat.local_world_size),
        MASTER_ADDR=seat.address,
        MASTER_PORT=str(seat.port),
    )
    if seat.own_address:
        name = interface_of(seat.own_address)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    dist.init_process_group("nccl" if device != "cpu" else "gloo", timeout=GROUP_TIMEOUT)
    try:
        yield
    except BaseException:
        if seat.world_size == 1:
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def interface_of(address: str) -> str:
    """The network interface of this machine that has an address.

    Left alone, gloo and NCCL guess: gloo takes what the host's name stands for, which is loopback on many systems, and
    ranks on two machines never meet.

    Raises:
        MachineError: If no interface has it.
    """
    names = [name for _, name in socket.if_nameindex()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in names:
            try:
                found = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has no IPv4 address
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    raise MachineError(
        f"No network interface of this machine has the address {address}; it has {', '.join(names)}.",
        f"address {address}",
        "start the node with `ray start --node-ip-address` set to an address that other nodes reach",
    )


def run_rank(fn: RankFunction, seat: Seat, device: str, channel: Channel, folder: Path) -> None:
    """The body of a rank's process: joins the group, calls `fn`, leaves its result or its error in `folder`."""
    try:
        prepare_process(device)
        with process_group(seat, device):
            result = fn(Rank(seat.rank, seat.world_size, seat.local_rank, device, channel, folder))
            if seat.rank == 0:
                write_result(folder, result)
    except BaseException as error:
        record_failure(folder, seat.rank, error)
        raise


def device_of(local_rank: int) -> str:
    """The torch device of a rank: its CUDA device where there is one, else the CPU.

    Torch is asked only where there is a driver that it could use: who launches ranks need not import it.
    """
    if not _has_driver():
        return "cpu"
    import torch

    return f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"


def launch_local(fn: RankFunction, workers: int, channel: Channel, scratch: Path) -> Json:
    """Runs `fn` on `workers` ranks of this machine and returns rank 0's result.

    Raises:
        HeadwaterError: The error of the first failing rank, if it was one of ours.
        RankLost: If the process of a rank was killed.
        RankFailed: Any other failure of a rank, with that rank's traceback.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="launch-", dir=scratch))
    port = free_port()
    try:
        if workers == 1:
            _run_local(0, fn, 1, port, channel, folder, False)
        else:
            processes = _spawn([(rank, fn, workers, port, channel, folder, True) for rank in range(workers)])
            try:
                failed = _join(processes)
            finally:
                _end(processes)
            if failed is not None:
                raise _cause(folder, [process.exitcode for process in processes], failed)
        return read_result(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_driver() -> bool:
    """Whether a driver of NVIDIA or AMD is installed, one of which torch needs for a device of its kind "cuda"."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return _AMD_DRIVER.exists()
    return True


def _spawn(arguments: Sequence[tuple[object, ...]]) -> list[BaseProcess]:
    """Starts a rank for each tuple of arguments. Without torch, whose import would keep a core from the ranks."""
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = [context.Process(target=_run_local, args=one) for one in arguments]
    for process in processes:
        process.start()
    return processes


def _join(processes: Sequence[BaseProcess]) -> int | None:
    """Waits until all have ended well, or one has not; returns the number of that one."""
    running = list(processes)
    while running:
        connection.wait([process.sentinel for process in running])
        running = [process for process in running if process.is_alive()]
        for number, process in enumerate(processes):
            if process.exitcode:
                return number
    return None


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ends what still runs."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(END_S)
        if process.is_alive():
            process.kill()
            process.join()


def _cause(folder: Path, exit_codes: list[int | None], failed: int) -> Exception:
    """What ended a group: our own error, then a killed rank (its peers only lost their connection), then the rest."""
    failure = read_failure(folder)
    killed = [rank for rank, code in enumerate(exit_codes) if code is not None and code < 0 and code != -signal.SIGTERM]
    if killed and not isinstance(failure, HeadwaterError | RankHung):
        return RankLost(f"rank {killed[0]} was killed by signal {-(exit_codes[killed[0]] or 0)}")
    return failure or RankFailed(f"rank {failed} ended with exit code {exit_codes[failed]}; its log tells why")


def _die_with_parent() -> None:
    """Leaves stopping to the parent: no reaction to Ctrl-C, which it gets as well, and no life after its death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run_local(
    rank: int, fn: RankFunction, world_size: int, port: int, channel: Channel, folder: Path, spawned: bool
) -> None:
    if spawned:
        _die_with_parent()
    seat = Seat(rank, world_size, rank, world_size, "127.0.0.1", port)
    run_rank(fn, seat, device_of(rank), channel, folder)
    if spawned:
        # Its work is done and on disk. One rank was seen to abort after that, while the interpreter was taken down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def record_failure(folder: Path, rank: int, error: BaseException) -> None:
    """Leaves a rank's error where the launcher finds it, the first one winning."""
    known = error if isinstance(error, HeadwaterError) else disk_full(error)
    record = {
        "rank": rank,
        "kind": type(known).__name__ if known else "",
        "parts": [known.what, known.where, known.fix] if known else [],
        "summary": "".join(traceback.format_exception_only(error)).strip().partition("\n")[0],
        "traceback": "".join(traceback.format_exception(error)),
    }
    publish_new(folder / "failure.json", json.dumps(record).encode())


def read_failure(folder: Path) -> Exception | None:
    """The error that `record_failure` left, as an exception to raise; None if no rank left one."""
    path = folder / "failure.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["kind"]:
        kind: type[HeadwaterError] = getattr(errors, record["kind"])
        return kind(*record["parts"])
    if record["summary"].startswith(_HUNG):
        return RankHung(record["summary"].removeprefix(_HUNG))
    return RankFailed(f"rank {record['rank']} raised {record['summary']}\n{record['traceback']}")
