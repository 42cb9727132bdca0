"""All targets, by name."""

from tests.fuzz.target import TargetFactory
from tests.fuzz.targets.checkpoint import checkpoint_target
from tests.fuzz.targets.layout import layout_target
from tests.fuzz.targets.rows import rows_target
from tests.fuzz.targets.schema import schema_target
from tests.fuzz.targets.shard import shard_target

TARGETS: dict[str, TargetFactory] = {
    "schema": schema_target,
    "layout": layout_target,
    "checkpoint": checkpoint_target,
    "shard": shard_target,
    "rows": rows_target,
}
