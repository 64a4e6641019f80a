"""Our own kernels for CPUs: compiles `kernels/` for the processor at hand and opens what comes out.

That takes three seconds once; the library stays in the user's cache. Where it cannot be, `why_not` says why, and
torch's kernels serve; HEADWATER_NATIVE=0 asks for that. All kernels are of single precision.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

Saved: TypeAlias = torch.autograd.function.FunctionCtx
"""What an operator with a gradient of its own keeps for it."""

_KERNELS = Path(__file__).with_name("kernels")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi")
_POINTER, _SIZE, _THREADS, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_ARGUMENTS = {
    "attention_forward": [_POINTER] * 4 + [_THREADS],
    "attention_backward": [_POINTER] * 6 + [_THREADS],
    "rms_norm_forward": [_POINTER] * 4 + [_FLOAT] + [_SIZE] * 2 + [_THREADS],
    "rms_norm_backward": [_POINTER] * 6 + [_SIZE] * 3 + [_THREADS],
    "transpose": [_POINTER] * 2 + [_SIZE] * 2 + [_THREADS],
    "swiglu_forward": [_POINTER] * 2 + [_SIZE] * 2 + [_THREADS],
    "swiglu_backward": [_POINTER] * 3 + [_SIZE] * 2 + [_THREADS],
    "gelu_forward": [_POINTER] * 2 + [_SIZE, _THREADS],
    "gelu_backward": [_POINTER] * 3 + [_SIZE, _THREADS],
    "cross_entropy": [_POINTER] * 3 + [_SIZE] * 2 + [_THREADS],
}


def why_not() -> str:
    """Why our kernels cannot serve on this machine, to stand after "because"; empty if they can."""
    return _loaded()[1]


def serves(x: Tensor) -> bool:
    """Whether a kernel takes this tensor: one that the compiler traces is left to it."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling() and not why_not()


def call(name: str, *arguments: Tensor | float | ctypes.Structure) -> None:
    """Calls a kernel on torch's number of threads.

    Args:
        name: Of the kernel.
        arguments: As in its C++; tensors are fp32 (or integers where it says so) and contiguous. It is given bare
            addresses, and writes to some of them.
    """
    library, reason = _loaded()
    assert library is not None, reason
    bare = (_bare(argument) for argument in arguments)
    getattr(library, name)(*bare, torch.get_num_threads())


def _bare(argument: Tensor | float | ctypes.Structure) -> object:
    if isinstance(argument, Tensor):
        return argument.data_ptr()
    return ctypes.byref(argument) if isinstance(argument, ctypes.Structure) else argument


@lru_cache(maxsize=1)
def _loaded() -> tuple[ctypes.CDLL | None, str]:
    """The compiled kernels, or why there are none."""
    if os.environ.get("HEADWATER_NATIVE") == "0":
        return None, "HEADWATER_NATIVE=0 says so"
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        return None, "there is no C++ compiler to build our own (c++, or what CXX names)"
    try:
        library = _opened(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return None, f"our own does not compile here ({said[0] if said else error})"
    for name, arguments in _ARGUMENTS.items():
        kernel = getattr(library, name)
        kernel.argtypes, kernel.restype = arguments, None
    return library, ""


def _opened(compiler: str) -> ctypes.CDLL:
    """The shared library, compiled unless the user's cache has it.

    Its name tells sources, flags and processor: a home directory may serve many machines. It appears there whole, so
    that ranks that compile at once do no harm; where the cache cannot be written, it is compiled anew every time.

    Raises:
        OSError: If no file can be written or the library cannot be opened.
        subprocess.SubprocessError: If it does not compile.
    """
    sources = sorted(_KERNELS.glob("*.cpp"))
    told = [path.read_bytes() for path in (*sources, *sorted(_KERNELS.glob("*.h")))]
    told += [" ".join((compiler, *_FLAGS)).encode(), _processor()]
    name = f"kernels-{hashlib.sha256(b'|'.join(told)).hexdigest()[:16]}.so"
    cache = _cache()
    if cache is not None and (cache / name).exists():
        return ctypes.CDLL(str(cache / name))
    with tempfile.TemporaryDirectory(dir=cache) as work:
        built = Path(work) / name
        command = [compiler, *_FLAGS, *map(str, sources), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        library = ctypes.CDLL(str(built))  # stays in memory when its file is gone
        if cache is not None:
            built.replace(cache / name)
    return library


def _cache() -> Path | None:
    """The user's cache; None where it cannot be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return cache if os.access(cache, os.W_OK) else None


def _processor() -> bytes:
    """What tells this processor's instructions from another's."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
    return next((line for line in lines if line.startswith((b"flags", b"Features"))), platform.machine().encode())
