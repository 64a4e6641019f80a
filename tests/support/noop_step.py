"""A step that does nothing, for measuring what the engine adds to it."""

from __future__ import annotations

from pathlib import Path

from tough_steps import ToughConfig

from components.context import Context, Metrics

VERSION = 1


def noop(ctx: Context, config: ToughConfig, left: Path) -> Metrics:
    """Does nothing."""
    return {}
