"""Rules about ConfigMaps and Secrets, and what of them may change."""

from __future__ import annotations

import json

from common import names
from master.api.validation.faults import Faults
from protos import core_pb2

# The keys that a Secret of one of Kubernetes' own types must have.
TYPED_KEYS: dict[str, tuple[str, ...]] = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def validate_config_map(config: core_pb2.ConfigMap, faults: Faults) -> None:
    for name, keys in (("data", config.data), ("binaryData", config.binaryData)):
        for key in sorted(keys):
            faults.check(f"{name}[{key}]", key, names.config_key_fault)
    for key in sorted(config.data.keys() & config.binaryData.keys()):
        faults.add(f"binaryData[{key}]", "must not have a key that data has, too")


def validate_secret(secret: core_pb2.Secret, faults: Faults) -> None:
    for key in sorted(secret.data):
        faults.check(f"data[{key}]", key, names.config_key_fault)
    for key in TYPED_KEYS.get(secret.type, ()):
        if key not in secret.data:
            faults.add(f"data[{key}]", f"is required in a Secret of type {secret.type}")
        elif key.startswith(".docker"):
            _json_object(f"data[{key}]", secret.data[key], faults)
    if secret.type == "kubernetes.io/basic-auth" and not {"username", "password"} & secret.data.keys():
        faults.add("data", f"must have username or password in a Secret of type {secret.type}")


def _json_object(path: str, value: bytes, faults: Faults) -> None:
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        faults.add(path, 'must be a JSON object (like {"auths": {...}})')


def validate_config_map_update(new: core_pb2.ConfigMap, old: core_pb2.ConfigMap, faults: Faults) -> None:
    _immutable(new, old, ("data", "binaryData"), faults)


def validate_secret_update(new: core_pb2.Secret, old: core_pb2.Secret, faults: Faults) -> None:
    if new.type != old.type:
        faults.add("type", f"must not change, it is {old.type}, got {new.type!r}; delete the Secret and create it anew")
    _immutable(new, old, ("data",), faults)


def _immutable(
    new: core_pb2.ConfigMap | core_pb2.Secret,
    old: core_pb2.ConfigMap | core_pb2.Secret,
    fields: tuple[str, ...],
    faults: Faults,
) -> None:
    if not old.immutable:
        return
    if not new.immutable:
        faults.add("immutable", "must stay true once it is; delete the object and create it anew")
    for name in fields:
        if dict(getattr(new, name)) != dict(getattr(old, name)):
            faults.add(name, "must not change where immutable is true; delete the object and create it anew")
