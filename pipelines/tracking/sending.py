"""Requests to MLflow that one call of its client does not make whole: long lists, and batches with one bad item.

MLflow answers a search with a page and a batch with all or nothing. A pipeline of a thousand steps has more runs than
a page; and a batch of a thousand metrics must not be lost for the one that MLflow does not take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")

PAGE = 1000
"""Runs asked for at a time."""


def search(client: MlflowClient, experiment_id: str, query: str) -> Iterator[Run]:
    """All runs that a query finds, the oldest first.

    Args:
        client: Connected MLflow client.
        experiment_id: Where to look.
        query: Filter in MLflow's language.
    """
    order, token = ["attributes.start_time ASC"], None
    while True:
        page = client.search_runs([experiment_id], query, max_results=PAGE, order_by=order, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def send(items: Sequence[T], request: Callable[[Sequence[T]], None], say: Callable[[str], None]) -> None:
    """Sends items with one request, and in halves if MLflow refuses them, until only what it refuses is left out.

    An item that is refused for good is said and not tried again: it would be refused for ever.

    Args:
        items: Metrics, parameters or tags.
        request: Sends some of them.
        say: Takes a line for the tracking log.
    """
    from mlflow.exceptions import MlflowException

    if not items:
        return
    try:
        request(items)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        if len(items) == 1:
            say(f"MLflow refuses {items[0]}: {error.message}")
            return
        half = len(items) // 2
        send(items[:half], request, say)
        send(items[half:], request, say)
