"""Overlays: YAML files that are merged over a manifest, by Kubernetes' strategic merge."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dlrm_mtl.launching.errors import RefusedLaunchError
from dlrm_mtl.launching.kubernetes.schema import DIRECTIVE, check_overlay, job_schema, resolved
from dlrm_mtl.quoting import quote, shorten

EACH = ("tasks", "containers")
"""Lists whose items have generated names: an item of an overlay without a name is merged into each."""


def read_overlay(path: Path) -> dict[str, Any]:
    """
    Raises:
        RefusedLaunchError: the file cannot be read or is not YAML, or a field is unknown or of the wrong type.
    """
    try:
        overlay = yaml.load(path.read_text(), _Loader)
    except OSError as error:
        raise RefusedLaunchError(f"{path}: {error.strerror}, expected a YAML file") from None
    except yaml.MarkedYAMLError as error:
        # Without the text around, which may hold a secret.
        line = error.problem_mark.line + 1
        raise RefusedLaunchError(f"{path}, line {line}: {shorten(error.problem)}, expected YAML") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise RefusedLaunchError(f"{path} has bytes that are no text, expected YAML") from None
    if not isinstance(overlay, dict):
        raise RefusedLaunchError(f"{path} is {quote(overlay)}, expected fields of a Volcano Job, such as spec")
    check_overlay(overlay, str(path))
    return overlay


def merged(manifest: Mapping[str, Any], overlay: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The manifest of a Volcano Job with an overlay: a strategic merge, as of ``kubectl patch``.

    Mappings are merged field by field; null removes a field. Lists with a merge key in Kubernetes' API, such as
    containers, env or volumes by name, are merged item by item, other lists replaced. ``$patch: replace`` in a mapping
    or list replaces what was there, ``$patch: delete`` beside the key of an item removes the item. Two rules go beyond
    kubectl: an item of ``tasks`` or ``containers`` without a name is merged into each that was there, and a variable of
    ``env`` keeps no field that the overlay leaves out, so that a ``value`` may become a ``valueFrom``.

    Args:
        source: the overlay's file, for messages.

    Raises:
        RefusedLaunchError: an item without its key.
    """
    return _Merge(source).mapping(manifest, overlay, job_schema(), "")


class _Merge:
    def __init__(self, source: str) -> None:
        self.source = source

    def value(self, base: Any, overlay: Any, schema: Mapping[str, Any], place: str) -> Any:
        schema = resolved(schema)
        if isinstance(overlay, dict):
            return self.mapping(base or {}, overlay, schema, place)
        if isinstance(overlay, list):
            return self.list(base or [], overlay, schema, place)
        return overlay

    def mapping(
        self, base: Mapping[str, Any], overlay: Mapping[str, Any], schema: Mapping[str, Any], place: str
    ) -> dict[str, Any]:
        result = {} if overlay.get(DIRECTIVE) == "replace" else dict(base)
        fields = schema.get("properties", {})
        for name, value in overlay.items():
            if value is None:
                result.pop(name, None)
            elif name != DIRECTIVE:
                inner = f"{place}.{name}" if place else name
                result[name] = self.value(result.get(name), value, fields.get(name, {}), inner)
        return result

    def list(self, base: list[Any], overlay: list[Any], schema: Mapping[str, Any], place: str) -> list[Any]:
        strategy = schema.get("x-kubernetes-patch-strategy", "")
        key = schema.get("x-kubernetes-patch-merge-key")
        items = schema.get("items", {})
        if None in overlay:
            raise RefusedLaunchError(f"{self.source}: {place}[{overlay.index(None)}] is null, expected an item")
        if "merge" not in strategy:
            return [self.value(None, item, items, place) for item in overlay]
        if key is None:
            return [*base, *(item for item in overlay if item not in base)]
        field = place.rpartition(".")[2]
        result = [] if {DIRECTIVE: "replace"} in overlay else list(base)
        before = {item[key] for item in base}
        for index, item in enumerate(overlay):
            if item == {DIRECTIVE: "replace"}:
                continue
            inner = f"{place}[{index}]"
            if key in item:
                matches = [position for position, existing in enumerate(result) if existing.get(key) == item[key]]
            elif field in EACH:
                matches = [position for position, existing in enumerate(result) if existing.get(key) in before]
            else:
                raise RefusedLaunchError(f"{self.source}: {inner} has no {key}, by which {field} are merged")
            if item.get(DIRECTIVE) == "delete":
                result = [existing for position, existing in enumerate(result) if position not in matches]
                continue
            for position in matches:
                existing = result[position]
                if "retainKeys" in strategy or field == "env":
                    existing = {name: value for name, value in existing.items() if name in item}
                result[position] = self.value(existing, item, items, inner)
            if not matches:
                result.append(self.value(None, item, items, inner))
        return result


class _Loader(yaml.SafeLoader):
    """Refuses what YAML would silently change: fields that occur twice, and names that are no strings."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for name, _ in node.value:
            text = name.value if name.tag.endswith(":merge") else self.construct_object(name)
            if not isinstance(text, str) or text in seen:
                problem = f"{quote(text)} {'occurs twice' if isinstance(text, str) else 'is no string'}"
                raise yaml.constructor.ConstructorError(None, None, problem, name.start_mark)
            seen.add(text)
        return super().construct_mapping(node, deep)
