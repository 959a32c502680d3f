"""Label and field selectors in Kubernetes' syntax: parsed once, then matched against labels or fields; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from common import names
from common.errors import BadRequest
from protos import meta_pb2

IN, NOT_IN, EXISTS, ABSENT, GREATER, LESS = "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"
OPERATORS = (IN, NOT_IN, EXISTS, ABSENT)

_TOKEN = re.compile(r"\s*(?:(==|=|!=|!|>|<|,|\(|\))|([^\s=!<>,()]+))")


@dataclass(frozen=True)
class Requirement:
    """One condition on one label. NotIn holds also where the label is missing, as in Kubernetes."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        return value is not None and self._compares(value)

    def _compares(self, value: str) -> bool:
        (bound,) = self.values
        try:
            number = int(value)
        except ValueError:
            return False
        return number > int(bound) if self.operator == GREATER else number < int(bound)

    def __str__(self) -> str:
        values = sorted(self.values)
        match self.operator:
            case "In":
                return f"{self.key}={values[0]}" if len(values) == 1 else f"{self.key} in ({','.join(values)})"
            case "NotIn":
                return f"{self.key}!={values[0]}" if len(values) == 1 else f"{self.key} notin ({','.join(values)})"
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"
        return f"{self.key}{'>' if self.operator == GREATER else '<'}{values[0]}"


@dataclass(frozen=True)
class LabelSelector:
    """Requirements that must all hold; none: everything matches. `str()` parses back to an equal selector."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = LabelSelector()


def parse_labels(text: str) -> LabelSelector:
    """Reads "app=web,tier in (a,b),!old,n>3". Raises BadRequest that names what is wrong."""
    if not text.strip():
        return EVERYTHING
    return LabelSelector(tuple(_LabelParser(text).requirements()))


def from_map(labels: Mapping[str, str]) -> LabelSelector:
    """The selector of a Service or ReplicationController: every label must be equal."""
    return LabelSelector(tuple(Requirement(key, IN, frozenset((labels[key],))) for key in sorted(labels)))


def from_message(selector: meta_pb2.LabelSelector) -> LabelSelector:
    """The selector of an apps kind. Raises BadRequest on an unknown operator."""
    found = list(from_map(selector.matchLabels).requirements)
    for expression in selector.matchExpressions:
        if expression.operator not in OPERATORS:
            raise BadRequest(
                f"label selector: operator must be one of {', '.join(OPERATORS)}, got {expression.operator!r}"
            )
        found.append(Requirement(expression.key, expression.operator, frozenset(expression.values)))
    return LabelSelector(tuple(found))


class _LabelParser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._at = 0

    def _split(self, text: str) -> list[str]:
        tokens, at, end = [], 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._fault(f"unexpected {text[at]!r}")
            tokens.append(found.group(1) or found.group(2))
            at = found.end()
        return tokens

    def _fault(self, problem: str) -> BadRequest:
        return BadRequest(
            f"label selector {self._text!r}: {problem}; write it like 'app=web', 'tier in (a,b)', 'app' or '!app', "
            "joined by commas"
        )

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def requirements(self) -> Iterable[Requirement]:
        while True:
            yield self._requirement()
            token = self._take()
            if not token:
                return
            if token != ",":
                raise self._fault(f"expected a comma before {token!r}")

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return Requirement(self._key(), ABSENT)
        key = self._key()
        match self._peek():
            case "" | ",":
                return Requirement(key, EXISTS)
            case "=" | "==":
                self._take()
                return Requirement(key, IN, frozenset((self._value(),)))
            case "!=":
                self._take()
                return Requirement(key, NOT_IN, frozenset((self._value(),)))
            case ">" | "<" as sign:
                self._take()
                return Requirement(key, GREATER if sign == ">" else LESS, frozenset((self._number(),)))
            case "in":
                self._take()
                return Requirement(key, IN, self._values())
            case "notin":
                self._take()
                return Requirement(key, NOT_IN, self._values())
        raise self._fault(f"expected an operator after {key!r}, got {self._peek()!r}")

    def _key(self) -> str:
        key = self._take()
        fault = names.label_key_fault(key)
        if fault:
            raise self._fault(f"label key {fault}")
        return key

    def _value(self) -> str:
        if self._peek() in {"", ","}:
            return ""
        value = self._take()
        fault = names.label_value_fault(value)
        if fault:
            raise self._fault(f"label value {fault}")
        return value

    def _number(self) -> str:
        value = self._take()
        try:
            int(value)
        except ValueError:
            raise self._fault(f"expected a whole number, got {value!r}") from None
        return value

    def _values(self) -> frozenset[str]:
        if self._take() != "(":
            raise self._fault("expected '(' after 'in' or 'notin'")
        values = set()
        while True:
            if self._peek() == ")":
                values.add("")
            else:
                values.add(self._value())
            match self._take():
                case ")":
                    return frozenset(values)
                case ",":
                    continue
                case token:
                    raise self._fault(f"expected ',' or ')', got {token!r}" if token else "a ')' is missing")


@dataclass(frozen=True)
class FieldRequirement:
    """One field that must, or with `negated` must not, have the value (as text)."""

    field: str
    value: str
    negated: bool = False


@dataclass(frozen=True)
class FieldSelector:
    """Field requirements that must all hold."""

    requirements: tuple[FieldRequirement, ...] = field(default=())

    def matches(self, read: Callable[[str], str]) -> bool:
        """`read` gives a field's value as text, empty where it is unset."""
        return all((read(r.field) == r.value) is not r.negated for r in self.requirements)

    def __bool__(self) -> bool:
        return bool(self.requirements)


def parse_fields(text: str, known: Iterable[str], kind: str) -> FieldSelector:
    """Reads "status.phase=Running,spec.nodeName!=n1".

    Raises BadRequest; for an unknown field it lists those that are known.
    """
    supported = sorted(known)
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, sign, value = _field_parts(part)
        if not sign:
            raise BadRequest(
                f"field selector {text!r}: {part!r} needs an operator; write it like "
                "'status.phase=Running' or 'spec.nodeName!=node-1', joined by commas"
            )
        if name not in supported:
            raise BadRequest(
                f"field selector {text!r}: {name!r} is not a field {kind} can be selected by; "
                f"supported are {', '.join(supported)}"
            )
        found.append(FieldRequirement(name, value, negated=sign == "!="))
    return FieldSelector(tuple(found))


def _field_parts(part: str) -> tuple[str, str, str]:
    for sign in ("!=", "==", "="):
        name, found, value = part.partition(sign)
        if found:
            return name.strip(), found, value.strip()
    return part, "", ""
