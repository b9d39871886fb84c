"""All samples of a run in one table, for people who come with other tools."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from leray.runs.computation import Samples
from leray.runs.files import atomic_write


def write_samples(path: Path, recorded: Iterable[tuple[str, int, int, Samples]]) -> None:
    """Write a row per computation, shard, step and name: its shape, and its values as float64.

    Within a step the names are in the order of the alphabet, so that equal samples give equal
    files. Values are in C order; integers beyond 2⁵³ are rounded (the checkpoints keep them
    exactly).
    """
    import pyarrow as pa
    from pyarrow import parquet

    names, shapes, values = [], [], []
    for computation, shard, step, samples in recorded:
        for name, array in sorted(samples.items()):
            names.append((computation, shard, step, name))
            shapes.append(list(array.shape))
            values.append(array.astype(np.float64).ravel())
    offsets = np.cumsum([0, *(len(v) for v in values)])
    flat = np.concatenate([np.empty(0), *values])
    columns = list(zip(*names, strict=True)) or [[], [], [], []]
    table = pa.table(
        {
            "computation": pa.array(columns[0], pa.string()),
            "shard": pa.array(columns[1], pa.int64()),
            "step": pa.array(columns[2], pa.int64()),
            "name": pa.array(columns[3], pa.string()),
            "shape": pa.array(shapes, pa.list_(pa.int64())),
            "values": pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat)),
        }
    )
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, use_dictionary=False)
    atomic_write(path, sink.getvalue().to_pybytes())
