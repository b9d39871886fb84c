"""All samples of a run in one table, for people who come with other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from leray.runs.computation import Samples
from leray.runs.files import atomic_file

GROUP = 2**20
"""Values of a row group, in which the file is written: 8 MB, or one larger array."""

_Row = tuple[str, int, int, str, list[int], np.ndarray]


def write_samples(path: Path, recorded: Iterable[tuple[str, int, int, Samples]]) -> None:
    """Write a row per computation, shard, step and name: its shape, and its values as float64.

    Within a step the names are in the order of the alphabet, so that equal samples give equal
    files. Values are in C order; integers beyond 2⁵³ are rounded (the checkpoints keep them
    exactly). Cost: memory for one row group, whatever the number of samples.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        {
            "computation": pa.string(),
            "shard": pa.int64(),
            "step": pa.int64(),
            "name": pa.string(),
            "shape": pa.list_(pa.int64()),
            "values": pa.large_list(pa.float64()),
        }
    )
    with (
        atomic_file(path) as file,
        parquet.ParquetWriter(file, schema, use_dictionary=False) as out,
    ):
        for rows in _groups(recorded):
            columns = [list(column) for column in zip(*rows, strict=True)]
            offsets = np.cumsum([0, *map(len, columns[-1])])
            values = pa.LargeListArray.from_arrays(
                pa.array(offsets, pa.int64()), pa.array(np.concatenate(columns[-1]))
            )
            kinds = [pa.array(c, t) for c, t in zip(columns[:-1], schema.types[:-1], strict=True)]
            out.write_table(pa.table([*kinds, values], schema=schema))


def _groups(recorded: Iterable[tuple[str, int, int, Samples]]) -> Iterator[list[_Row]]:
    """Rows in order, so many together that their values pass ``GROUP``."""
    rows, size = [], 0
    for computation, shard, step, samples in recorded:
        for name, array in sorted(samples.items()):
            values = array.astype(np.float64).ravel()
            rows.append((computation, shard, step, name, list(array.shape), values))
            size += len(values)
            if size >= GROUP:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows
