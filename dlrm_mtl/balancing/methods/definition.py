"""What a class of methods was defined to do: so that whatever is changed later is known, and obeyed."""

from collections.abc import Mapping
from typing import Any


class Definition:
    """The attributes of a class and of its bases, as they were when the class was defined.

    What a class says of its methods (``portable``) holds for the class as its file has it, and a CUDA graph replays a
    step as it was recorded. Neither holds for a subclass that overrides something, nor where something of an object or
    a class was replaced.
    """

    def __init__(self) -> None:
        self._attributes: list[tuple[type, dict[str, Any]]] = []
        self._names: frozenset[str] = frozenset()

    def remember(self, bases: tuple[type, ...]) -> None:
        """Called once the class has all its attributes, this one among them.

        Args:
            bases: the class and those of its bases that say what its objects do.
        """
        self._attributes = [(base, dict(vars(base))) for base in bases]
        self._names = frozenset(name for base in bases for name in dir(base))

    def declared(self, name: str) -> bool:
        """Whether the class itself says this of its objects; what a base says is not inherited."""
        return self._attributes[0][1].get(name) is True

    def holds(self) -> bool:
        """Whether no attribute of the classes has been replaced, added or removed since."""
        return all(vars(base) == attributes for base, attributes in self._attributes)

    def replaced_in(self, value: object) -> Mapping[str, Any]:
        """Attributes of an object that hide those of its class."""
        own = vars(value)
        if own.keys().isdisjoint(self._names):
            return {}
        return {name: own[name] for name in own.keys() & self._names}
