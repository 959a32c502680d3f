"""Rules about label selectors."""

from __future__ import annotations

from common import names
from common.selectors import OPERATORS
from master.api.validation.faults import Faults
from master.api.validation.meta import validate_labels
from protos import meta_pb2


def validate_selector(path: str, selector: meta_pb2.LabelSelector, faults: Faults) -> None:
    """The form of a label selector; whether it may be empty is for the caller to say."""
    validate_labels(f"{path}.matchLabels", selector.matchLabels, faults)
    for index, wanted in enumerate(selector.matchExpressions):
        here = f"{path}.matchExpressions[{index}]"
        faults.required(f"{here}.key", wanted.key, "a label's name", names.label_key_fault)
        faults.one_of(f"{here}.operator", wanted.operator, OPERATORS)
        if wanted.operator in {"In", "NotIn"} and not wanted.values:
            faults.add(f"{here}.values", f"is required where operator is {wanted.operator}")
        if wanted.operator in {"Exists", "DoesNotExist"} and wanted.values:
            faults.add(f"{here}.values", f"must be empty where operator is {wanted.operator}")
        for number, value in enumerate(wanted.values):
            faults.check(f"{here}.values[{number}]", value, names.label_value_fault)
