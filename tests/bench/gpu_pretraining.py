"""Pretraining on one GPU: tokens a second, MFU in both conventions, share of the measured GEMM peak, peak memory.

    python tests/bench/gpu_pretraining.py --peers nanogpt,trainer

On an H100 or H200, from the root of a checkout, with torch for CUDA, deepspeed, pyarrow and safetensors (and for
the peers transformers and accelerate; for nanoGPT `export HEADWATER_NANOGPT=<folder of a checkout>`): the line above.
Neither Ray nor MLflow is asked for. It trains the shapes 124m (1024 tokens), 350m and 1b (2048) in bf16 over random
ids, each program alone on the device, in a process of its own, one after the other in the same call: our loader, loop
and engines (plain, ZeRO-1, ZeRO-3; blocks compiled or not), nanoGPT's `train.py` and transformers' Trainer, as `peers/`
runs them. A row that does not fit or cannot run says so and the table goes on; if it is one of ours, the status is 1.

Seconds are wall time between two synchronisations of the device; each row gives the best round and the median one. MFU
counts FLOPs as `components.model.flops` does, "palm" and "causal", over the published dense peak of the device; the
GEMM share is the first over a matrix product measured on it just before. Goals, in the convention of PaLM: 42 % at
124m, 44 % at 350m, 48 % at 1b; 1.2 of nanoGPT compiled, 1.4 of Trainer. The shapes are GPT-2's; with `--family llama`
they are LLaMA's of about the same size, which nanoGPT has not.

Without a GPU it trains small shapes on the CPU, in CPU time, and prints the same table without MFU: that shows that the
programs run, and says nothing of a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

PEERS = Path(__file__).resolve().parent / "peers"
ROOT = PEERS.parents[2]
sys.path[:0] = [str(ROOT), str(PEERS)]

from our_pretraining import model_config  # noqa: E402  (found through the path set above)

from components.model.counting import num_parameters  # noqa: E402
from components.model.flops import flops_per_token  # noqa: E402
from components.training.devices import device_name, measure_peak, peak_flops  # noqa: E402

ENGINES = ("plain", "zero1", "zero3")
OTHERS = ("nanogpt", "trainer")
GOALS = {"124m": 0.42, "350m": 0.44, "1b": 0.48}
COMPILED: dict[str, list[list[str]]] = {"no": [[]], "yes": [["compile"]], "both": [[], ["compile"]]}
GIB = 2.0**30


@dataclass(frozen=True)
class Shape:
    """What is trained, as the programs of `peers` read it.

    Attributes:
        layers: Blocks.
        dim: Width.
        heads: Of attention; all have keys and values of their own.
        length: Tokens of a row.
        batch: Rows of a step, in one forward pass.
        ffn: Width inside a feed-forward layer.
        vocab: Ids.
        family: "gpt2" or "llama".
        device: "cpu" or "cuda".
        warmup: Steps before the first round.
        steps: Steps of a round.
    """

    layers: int
    dim: int
    heads: int
    length: int
    batch: int
    ffn: int = 0
    vocab: int = 50304
    family: str = "gpt2"
    device: str = "cuda"
    warmup: int = 10
    steps: int = 20


@dataclass(frozen=True)
class Rates:
    """What a program came to.

    Attributes:
        best: Tokens a second of the fastest round.
        median: Of the median round.
        peak_bytes: Most memory held: of the device, or of the process on a CPU.
    """

    best: float
    median: float
    peak_bytes: int


@dataclass(frozen=True)
class Machine:
    """Published and measured FLOP/s of the device; no published one on a CPU or an unknown GPU."""

    published: float | None
    measured: float


GPU_SHAPES = {
    "124m": Shape(layers=12, dim=768, heads=12, length=1024, batch=32),
    "350m": Shape(layers=24, dim=1024, heads=16, length=2048, batch=16),
    "1b": Shape(layers=18, dim=2048, heads=16, length=2048, batch=8),
}
CPU_SHAPES = {
    name: Shape(layers, dim, 4, 64, 4, vocab=1024, device="cpu", warmup=3, steps=4)
    for name, layers, dim in (("124m", 2, 64), ("350m", 3, 64), ("1b", 2, 128))
}
"""They stand for those of the same name, so that the options are the same everywhere."""


def run(command: Sequence[str], shape: Shape, rounds: int) -> Rates:
    """Starts a program, lets it warm up and train its rounds.

    Raises:
        RuntimeError: If it ends early; with the end of what it wrote.
    """
    path = os.pathsep.join([str(ROOT), str(PEERS)])
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    variables = {"CUDA_VISIBLE_DEVICES": "0", **os.environ, **quiet}
    with tempfile.TemporaryFile("w+") as errors:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "text": True}
        program = subprocess.Popen(command, env=variables, **pipes)  # type: ignore[call-overload]
        try:
            _after("ready", program)
            took, peak = [], "0"
            for _ in range(rounds):
                program.stdin.write("go\n")
                program.stdin.flush()
                peak = _after("peak", program)
                took.append(float(_after("took", program)))
        except (EOFError, BrokenPipeError) as error:
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
            raise RuntimeError(lines[-1] if lines else "it ended without a word") from error
        finally:
            program.stdin.close()
            program.terminate()
            program.wait(timeout=120)
            program.stdout.close()
    tokens = shape.steps * shape.batch * shape.length
    return Rates(tokens / min(took), tokens / statistics.median(took), int(peak))


def _after(word: str, program: subprocess.Popen[str]) -> str:
    """The rest of the next line that begins with a word."""
    assert program.stdout is not None
    for line in program.stdout:
        if line.startswith(word):
            return line[len(word) :].strip()
    raise EOFError


def entrants(arguments: argparse.Namespace, shape: Shape) -> dict[str, list[str]]:
    """The programs of a shape, by the name that the table has for them."""
    text = json.dumps(asdict(shape))
    programs: dict[str, list[str]] = {}
    for compiled in COMPILED[arguments.compile]:
        note = ", compiled" if compiled else ""
        for engine in arguments.engines:
            own = [sys.executable, str(PEERS / "our_pretraining.py"), engine, text, *compiled]
            programs[f"headwater {engine}{note}"] = own
        for name in arguments.peers:
            if name == "nanogpt" and shape.family != "gpt2":
                continue
            other = [arguments.peer_python, str(PEERS / "pretraining_peers.py"), name, text, *compiled]
            programs[f"{name}{note}"] = other
    return programs


def row(name: str, shape: Shape, rates: Rates, machine: Machine) -> str:
    """A line of the table."""
    config = model_config(asdict(shape))
    palm, causal = (rates.best * flops_per_token(config, shape.length, of) for of in ("palm", "causal"))
    cells = [f"{rates.best:10.0f}", f"{rates.median:10.0f}"]
    cells += [_share(flops, machine.published) for flops in (palm, causal)]
    cells += [_share(palm, machine.measured), f"{rates.peak_bytes / GIB:8.2f}"]
    return f"  {name:28}{' '.join(cells)}"


def _share(flops: float, peak: float | None) -> str:
    return f"{flops / peak:11.1%}" if peak else f"{'-':>11}"


def measure(name: str, shape: Shape, arguments: argparse.Namespace, machine: Machine) -> bool:
    """Prints the part of the table for one shape; False if a program of ours failed."""
    config = model_config(asdict(shape))
    size = f"{shape.layers} layers, d={shape.dim}, {shape.length} tokens, {shape.batch} rows"
    print(f"\n{name} ({shape.family}, {num_parameters(config) / 1e6:.1f} M parameters, {size})")
    heads = ("tokens/s", "median"), ("MFU palm", "MFU causal", "GEMM share")
    print(
        f"  {'':28}{''.join(f'{head:>11}' for head in heads[0])[1:]} {' '.join(f'{h:>11}' for h in heads[1])} peak GiB"
    )
    rates: dict[str, Rates] = {}
    fine = True
    for entrant, command in entrants(arguments, shape).items():
        try:
            rates[entrant] = run(command, shape, arguments.rounds)
            print(row(entrant, shape, rates[entrant], machine), flush=True)
        except RuntimeError as error:
            fine = fine and not entrant.startswith("headwater")
            print(f"  {entrant:28} failed: {error}"[:200], flush=True)
    print(summary(name, shape, rates, machine))
    return fine


def summary(name: str, shape: Shape, rates: dict[str, Rates], machine: Machine) -> str:
    """Our fastest row beside the goal and the fastest of each peer."""
    own = {entrant: one for entrant, one in rates.items() if entrant.startswith("headwater")}
    if not own:
        return "  nothing of ours ran"
    first = max(own, key=lambda entrant: own[entrant].best)
    lines = []
    if machine.published:
        flops = own[first].best * flops_per_token(model_config(asdict(shape)), shape.length, "palm")
        lines.append(f"  {first}: MFU {flops / machine.published:.1%}, goal {GOALS[name]:.0%}")
    for peer in OTHERS:
        theirs = [one.best for entrant, one in rates.items() if entrant.startswith(peer)]
        if theirs:
            lines.append(f"  {first} is {own[first].best / max(theirs):.2f} of {peer}'s fastest")
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    listed = {"type": lambda text: [word for word in text.split(",") if word]}
    parser.add_argument("--shapes", default=list(GPU_SHAPES), **listed, help="of 124m,350m,1b")
    parser.add_argument("--engines", default=list(ENGINES), **listed, help="of plain,zero1,zero3")
    parser.add_argument("--peers", default=[], **listed, help="of nanogpt,trainer; none if not given")
    parser.add_argument("--peer-python", default=sys.executable, help="Python of the peers, if not this one")
    parser.add_argument("--compile", default="both", choices=sorted(COMPILED))
    parser.add_argument("--family", default="gpt2", choices=("gpt2", "llama"))
    parser.add_argument("--batch", type=int, default=0, help="rows of a step instead of the shape's own")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(words)
    for option, known in (("shapes", GPU_SHAPES), ("engines", ENGINES), ("peers", OTHERS)):
        if unknown := sorted(set(getattr(arguments, option)) - set(known)):
            parser.error(f"--{option} knows {', '.join(known)}, not {', '.join(unknown)}")
    if arguments.rounds < 1 or arguments.batch < 0:
        parser.error("--rounds must be at least 1 and --batch at least 0")
    if "nanogpt" in arguments.peers and not Path(os.environ.get("HEADWATER_NANOGPT", "-"), "train.py").is_file():
        parser.error("--peers nanogpt needs HEADWATER_NANOGPT to name a checkout of nanoGPT")
    return arguments


def with_options(shape: Shape, arguments: argparse.Namespace) -> Shape:
    """A shape as the options want it: gated layers are two thirds as wide, which keeps the number of weights."""
    gpt2 = arguments.family == "gpt2"
    ffn = 4 * shape.dim if gpt2 else -(-8 * shape.dim // (3 * 64)) * 64
    return replace(shape, family=arguments.family, ffn=ffn, batch=arguments.batch or shape.batch)


def main() -> int:
    """Prints the table."""
    arguments = parse()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_num_threads(1)
    clock = time.perf_counter if cuda else time.process_time  # that of the programs
    measured = measure_peak(device, torch.bfloat16 if cuda else torch.float32, clock)
    machine = Machine(peak_flops(device_name(device)), measured)
    if cuda:
        torch.cuda.empty_cache()
    peak = f"{machine.published / 1e12:.0f} TFLOP/s published" if machine.published else "no published peak: no MFU"
    kind = "bf16, wall time" if cuda else "fp32, one thread, CPU time"
    print(f"{device_name(device)}, torch {torch.__version__}, {kind}; {peak}; ", end="")
    print(f"matrix product measured {machine.measured / 1e12:.3f} TFLOP/s")
    shapes = GPU_SHAPES if cuda else CPU_SHAPES
    fine = [measure(name, with_options(shapes[name], arguments), arguments, machine) for name in arguments.shapes]
    if not cuda:
        print("\nNo GPU here: small shapes stand for the real ones. All figures for a GPU are open.")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
