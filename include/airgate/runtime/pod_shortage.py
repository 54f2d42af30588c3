"""What a pod that no node took asked for, and what the cluster has of it. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airgate.contracts.resources import Resources
from airgate.runtime import pod_placement

SHORT = re.compile(r"Insufficient ([A-Za-z0-9./\-]+[A-Za-z0-9])")
WRONG_NODE = re.compile(r"didn't match|did not match|node\(s\) had .*taint", re.IGNORECASE)
SHOWN = 5


@dataclass(frozen=True)
class Node:
    """A node of the cluster: what it has for pods, and its labels. `amounts` as Kubernetes writes them."""

    name: str
    amounts: Mapping[str, str]
    labels: Mapping[str, str]


def shortage(resources: Resources, said: str, nodes: Sequence[Node] | None) -> str:
    """Say which resource is short, what was asked and what each node has, and what to do about it.

    `said` is the scheduler's message. What other pods hold at the moment is the scheduler's to know; a node's whole is told.
    """
    short = list(dict.fromkeys(SHORT.findall(said)))
    parts = [_of_resource(name, resources, nodes) for name in short]
    if WRONG_NODE.search(said):
        parts.append(_of_place(resources, nodes))
    if nodes is None:
        parts.append("What the nodes have is not known here: Airflow's role may not list nodes.")
    hint = f", or let it wait in the Airflow pool '{resources.gpu_pool}'" if resources.gpu_pool else ""
    parts.append(f"Ask for less in model.yaml{hint}, add nodes, or wait longer with schedule_timeout_seconds.")
    return " ".join(parts)


def _of_resource(name: str, resources: Resources, nodes: Sequence[Node] | None) -> str:
    asked = {"cpu": f"{resources.cpu:g}", "memory": resources.memory, resources.gpu_resource: str(resources.gpu)}.get(name, "?")
    text = f"Short is {name}: the step asks for {asked}"
    if nodes is None:
        return f"{text}."
    have = [f"{node.name} {_shown(name, node.amounts[name])}" for node in nodes if node.amounts.get(name, "0") != "0"]
    if not have:
        return f"{text}, and no node has any."
    more = f" and {len(have) - SHOWN} more" if len(have) > SHOWN else ""
    return f"{text}; in all there are {', '.join(have[:SHOWN])}{more}, partly in use."


def _of_place(resources: Resources, nodes: Sequence[Node] | None) -> str:
    wanted = pod_placement.node_selector(resources)
    if not wanted:
        return "The step's pod does not tolerate these nodes' taints, or does not fit their labels."
    text = "The step asks for nodes with " + ", ".join(f"{key}={value}" for key, value in wanted.items())
    if nodes is None:
        return f"{text}."
    known = [f"{key}: {', '.join(sorted(values)) or 'on no node'}" for key, values in (
        (key, {node.labels[key] for node in nodes if key in node.labels}) for key in wanted)]
    return f"{text}; there are {'; '.join(known)}."


def _shown(name: str, amount: str) -> str:
    """Memory comes in Ki; people think in Gi."""
    if name == "memory" and amount.endswith("Ki"):
        return f"{int(amount[:-2]) / 2**20:.1f}Gi"
    return amount
