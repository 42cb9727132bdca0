"""The schema of a Volcano Job with its pods, and checks against it."""

import functools
import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from dlrm_mtl.launching.errors import RefusedLaunchError
from dlrm_mtl.quoting import quote, shorten

QUANTITY = r"^[+-]?[0-9.]+([eEinumkKMGTP]*[-+]?[0-9]*)$"
"""Kubernetes' own pattern, which its schema leaves out."""

DIRECTIVE = "$patch"
"""The field of an overlay that says how a mapping or list is merged."""


@functools.cache
def job_schema() -> dict[str, Any]:
    """The JSON schema of a Volcano Job. All references are to its ``$defs``; lists have the merge keys and strategies
    of Kubernetes' API (x-kubernetes-patch-merge-key, x-kubernetes-patch-strategy). Unknown fields are refused."""
    folder = f"v{kubernetes_validate.latest_version()}-local-strict"
    kubernetes = files("kubernetes_validate") / "kubernetes-json-schema" / folder / "_definitions.json"
    definitions = json.loads(kubernetes.read_text())["$defs"]
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["oneOf"][0]["pattern"] = QUANTITY
    schema: dict[str, Any] = json.loads((files(__package__) / "volcano_job.json").read_text())
    schema["$defs"].update(definitions)
    return schema


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of the job's schema, or the definition that it refers to."""
    while "$ref" in schema:
        schema = job_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema


def check_manifest(manifest: Mapping[str, Any], source: str) -> None:
    """
    Args:
        source: the file that is to be changed if there is an error.

    Raises:
        RefusedLaunchError: a cluster would refuse the manifest.
    """
    _check(Draft202012Validator(job_schema()), manifest, source)


def check_overlay(overlay: Any, source: str) -> None:
    """Checks every field of an overlay by name and type. Required fields may be missing, and any field may be null.

    Raises:
        RefusedLaunchError: an unknown field, or a value of the wrong type.
    """
    _check(_PartValidator(job_schema()), _without_directives(overlay, source), source)


def _unless_null(keyword: str, check: Any) -> Any:
    def check_part(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if instance is not None and keyword != "required":
            yield from check(validator, value, instance, schema) or ()

    return check_part


_PartValidator = extend(
    Draft202012Validator,
    {keyword: _unless_null(keyword, check) for keyword, check in Draft202012Validator.VALIDATORS.items()},
)


def _without_directives(part: Any, source: str) -> Any:
    if isinstance(part, list):
        return [_without_directives(item, source) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get(DIRECTIVE, "replace") not in ("replace", "delete"):
        raise RefusedLaunchError(f"{source}: {DIRECTIVE} is {quote(part[DIRECTIVE])}, expected replace or delete")
    return {name: _without_directives(value, source) for name, value in part.items() if name != DIRECTIVE}


def _check(validator: Any, instance: Any, source: str) -> None:
    error = min(
        validator.iter_errors(instance), key=lambda error: [str(step) for step in error.absolute_path], default=None
    )
    if error is not None:
        raise RefusedLaunchError(f"{source}: {_explanation(error)}")


def _explanation(error: ValidationError) -> str:
    place = _place(error)
    expected = error.schema
    match error.validator:
        case "additionalProperties":
            fields = expected["properties"]
            name = next(name for name in error.instance if name not in fields)
            near = get_close_matches(name, fields) or sorted(fields)
            where = f"{place}.{name}" if place else name
            return shorten(f"{where}: there is no such field, expected one of {', '.join(near)}", 400)
        case "required":
            missing = next(name for name in error.validator_value if name not in error.instance)
            return f"{place} has no {missing}"
        case "type":
            kinds = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
            expectation = " or ".join(kind for kind in kinds if kind != "null")
        case "enum":
            expectation = f"one of {', '.join(error.validator_value)}"
        case "const":
            expectation = quote(error.validator_value)
        case "oneOf":  # quantities, and ports by number or name
            expectation = (
                "a quantity such as 2, 500m or 64Gi" if "pattern" in expected["oneOf"][0] else "a number or a string"
            )
        case _:
            return f"{place}: {shorten(error.message)}"
    # A literal value of a variable may be a secret.
    value = "wrong" if place.endswith("].value") else quote(error.instance)
    return f"{place} is {value}, expected {expectation}"


def _place(error: ValidationError) -> str:
    text = ""
    for step in error.absolute_path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")
