"""What an export and a publication say on stdout."""

from dlrm_mtl.serving.deltas.manifest import Delta
from dlrm_mtl.serving.manifest import ENCODING, Manifest
from dlrm_mtl.units import format_size


def format_export(manifest: Manifest) -> str:
    """Files and their sizes; NE with float and with int8 tables."""
    of_encoding = {name: file.bytes for name, file in manifest.files.items() if name.startswith(f"{ENCODING}/")}
    lines = [f"{name}: {format_size(file.bytes)}" for name, file in manifest.files.items() if name not in of_encoding]
    if of_encoding:
        lines.append(f"{ENCODING}: {len(of_encoding)} files, {format_size(sum(of_encoding.values()))}")
    if manifest.quantization is not None:
        loss = "NE or NMSE" if any(output.kind == "regression" for output in manifest.outputs) else "NE"
        lines += ["", f"{loss} with float tables, with int8 tables, and the difference in percent:"]
        for output, ne in manifest.quantization.ne.items():
            before, after = ne.float_tables, ne.int8_tables
            if before is None or after is None:
                lines.append(f"{output}: none, all labels are equal")
            else:
                lines.append(f"{output}: {before:.6f}, {after:.6f}, {100 * (after - before):+.4f}")
    return "\n".join(lines)


def format_delta(delta: Delta) -> str:
    """Its size, and how many rows of the tables changed; ``delta.json`` has them by table."""
    changed = sum(changes.replaced + changes.appended for changes in delta.tables.values())
    rows = sum(changes.rows for changes in delta.tables.values())
    return f"{format_size(delta.bytes)} of {format_size(delta.export.bytes)}, {changed:,} of {rows:,} rows changed"
