"""Options of a model that no part of it reads."""

from dataclasses import fields
from typing import Any

from dlrm_mtl.config import ModelConfig


class OptionReads(ModelConfig):
    """A copy of a configuration that remembers which of its options were read."""

    @classmethod
    def of(cls, config: ModelConfig) -> "OptionReads":
        reads = object.__new__(cls)
        reads.__dict__.update(vars(config))
        return reads

    def __getattribute__(self, name: str) -> Any:
        values = object.__getattribute__(self, "__dict__")
        values.setdefault("_names", set()).add(name)
        return object.__getattribute__(self, name)

    def unread(self) -> dict[str, Any]:
        """Options that were set to other values than the defaults and not read."""
        defaults, names = vars(ModelConfig()), set(vars(self)["_names"])
        values = {item.name: vars(self)[item.name] for item in fields(ModelConfig)}
        return {name: value for name, value in values.items() if name not in names and value != defaults[name]}
