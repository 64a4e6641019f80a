"""Ranks on two machines that share no network but one cable: two network namespaces, joined by a pair of interfaces.

Nothing in there can reach this machine's network. What it takes is the right to make namespaces as an ordinary user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import MachineError
from components.launching import interface_of

SUPPORT = Path(__file__).parents[2] / "support"
WEST, EAST = "10.77.0.1", "10.77.0.2"

PROGRAM = """
import os, subprocess, sys, threading, time
import elastic_steps as elastic
import ray
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.plan import make_plan
from pipelines.engine.remote import connect
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
from components.publish import publish_json
from ray_head import ray_head, ray_node
root, west, east = sys.argv[1:]
def ip(*words, inside=()):
    subprocess.run([*inside, "ip", *words], check=True)
other = subprocess.Popen(["unshare", "-n", "sleep", "600"])
time.sleep(1)
enter = ["nsenter", "-t", str(other.pid), "-n"]
try:
    ip("link", "set", "lo", "up")
    ip("link", "set", "lo", "up", inside=enter)
    ip("link", "add", "west", "type", "veth", "peer", "name", "east", "netns", str(other.pid))
    for name, address, inside in (("west", west, ()), ("east", east, enter)):
        ip("addr", "add", f"{address}/24", "dev", name, inside=inside)
        ip("link", "set", name, "up", inside=inside)
    token = os.environ["RAY_AUTH_TOKEN"]
    with ray_head(num_cpus=1, token=token, node_ip=west) as head, ray_node(head, prefix=enter, node_ip=east):
        recipe = Recipe("two")
        recipe.step(elastic.meeting, elastic.ElasticConfig(ranks=2), ranks=2)
        store = Store(root)
        plan = make_plan(recipe.steps, store)
        folder = store.run_folder("two")
        publish_json(folder / "plan.json", plan.to_json())
        cluster = ClusterConfig(kind="ray", address=head.address)
        connect(cluster)
        while sum(node["Alive"] for node in ray.nodes()) < 2:
            time.sleep(0.1)
        status = execute(plan, store, folder, cluster, threading.Event())
        print(status.error, status.steps["meeting"].metrics)
        ray.shutdown()
        sys.exit(status.exit_code)
finally:
    other.kill()
"""


def can_make_namespaces() -> bool:
    """Whether this user may make network namespaces and interfaces in them."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    words = ["unshare", "-rnm", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ranks_in_two_networks_meet_over_the_interfaces_that_join_them(tmp_path: Path):
    if not can_make_namespaces():
        pytest.skip("needs the right to make network namespaces (unshare -rnm)")
    support = tmp_path / "support"  # without the hook of the tests: the other namespace is another machine to it
    support.mkdir()
    for name in ("elastic_steps.py", "ray_head.py"):
        (support / name).symlink_to(SUPPORT / name)
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(support), str(root)])}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    store = tmp_path / "store"
    words = ["unshare", "-rnm", sys.executable, "-c", PROGRAM, str(store), WEST, EAST]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    [first] = store.rglob("rank-0")
    places = [(first.with_name(f"rank-{rank}")).read_text().split() for rank in range(2)]
    assert sorted(place[1] for place in places) == ["east", "west"]
    assert {place[0] for place in places} == {WEST if places[0][1] == "west" else EAST}  # rank 0's own address
    assert [place[2:] for place in places] == [["0", "1"], ["0", "1"]]


def test_the_interface_of_an_address_is_found():
    assert interface_of("127.0.0.1") == "lo"


def test_an_address_that_no_interface_has_is_refused_with_those_there_are():
    with pytest.raises(
        MachineError, match=r"No network interface of this machine has the address 203\.0\.113\.9; it has "
    ):
        interface_of("203.0.113.9")
