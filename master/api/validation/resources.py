"""Rules about amounts: quantities, requests and limits, node capacity."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from google.protobuf.wrappers_pb2 import StringValue

from common import names
from common.quantity import QuantityError, parse_quantity
from master.api.validation.faults import Faults
from protos import core_pb2

COMPUTE = ("cpu", "memory", "ephemeral-storage")


def quantity(path: str, text: str, faults: Faults) -> Fraction | None:
    """The amount, or None after noting what is wrong with it."""
    try:
        amount = parse_quantity(text)
    except QuantityError as error:
        faults.add(path, str(error))
        return None
    if amount < 0:
        faults.add(path, f"must not be negative, got {text}")
        return None
    return amount


def validate_requirements(path: str, resources: core_pb2.ResourceRequirements, faults: Faults) -> None:
    limits = _amounts(f"{path}.limits", resources.limits, faults)
    requests = _amounts(f"{path}.requests", resources.requests, faults)
    for name in sorted(requests.keys() & limits.keys()):
        if requests[name] > limits[name]:
            faults.add(
                f"{path}.requests[{name}]",
                f"must be at most the limit of {resources.limits[name].value}, got {resources.requests[name].value}",
            )


def _amounts(path: str, amounts: Mapping[str, StringValue], faults: Faults) -> dict[str, Fraction]:
    found = {}
    for name in sorted(amounts):
        where = f"{path}[{name}]"
        if name not in COMPUTE:
            faults.add(where, f"is not a resource containers can ask for (these are {', '.join(COMPUTE)})")
            continue
        amount = quantity(where, amounts[name].value, faults)
        if amount is None:
            continue
        found[name] = amount
        if name != "cpu" and amount.denominator != 1:
            faults.add(where, f"must be a whole number of bytes (like 64Mi), got {amounts[name].value}")
        elif name == "cpu" and (amount * 1000).denominator != 1:
            faults.add(where, f"must not be finer than a thousandth of a cpu (1m), got {amounts[name].value}")
    return found


def validate_capacity(path: str, amounts: Mapping[str, StringValue], faults: Faults) -> None:
    """A node's capacity or allocatable: any resource name, amounts of zero or more."""
    for name in sorted(amounts):
        fault = names.label_key_fault(name)
        if fault:
            faults.add(path, f"resource name {fault}")
        quantity(f"{path}[{name}]", amounts[name].value, faults)
