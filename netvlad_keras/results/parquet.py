"""`.parquet`: a row for each image, `path` and `descriptor` (float32, fixed length)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from netvlad_keras.results import Rows

__all__ = ["names", "read", "write"]

_ABOUT = b"netvlad_keras"
_CHECKED = {"page_checksum_verification": True}


def read(path: Path) -> tuple[list[str], NDArray[np.float32], dict[str, Any]]:
    """Paths, float32 [N, D] and what the file says of them."""
    table = pyarrow.parquet.read_table(path, columns=["path", "descriptor"], **_CHECKED)
    about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
    flat = table["descriptor"].combine_chunks()
    values = np.asarray(flat.flatten().to_numpy(), np.float32)
    return _texts(table), values.reshape(len(table), -1), about


def names(path: Path) -> list[str]:
    """The paths alone."""
    return _texts(pyarrow.parquet.read_table(path, columns=["path"], **_CHECKED))


def _texts(table: pyarrow.Table) -> list[str]:
    found: list[str] = table["path"].to_pylist()
    if other := [each for each in found if not isinstance(each, str)]:
        raise ValueError(f"its column path holds {other[0]!r}, which is no path")
    return found


def write(path: Path, rows: Rows, about: Mapping[str, Any]) -> None:
    """Write the file, a row group for each block."""
    kind = pyarrow.list_(pyarrow.float32(), rows.dimension)
    fields = [("path", pyarrow.string()), ("descriptor", kind)]
    schema = pyarrow.schema(fields, {_ABOUT: json.dumps(about, sort_keys=True)})
    # Descriptors are noise to a compressor, and no dictionary is smaller than they are.
    options = {"compression": "none", "use_dictionary": ["path"], "write_page_checksum": True}
    with pyarrow.parquet.ParquetWriter(path, schema, **options) as writer:
        for paths, block in rows.blocks():
            values = pyarrow.array(np.ascontiguousarray(block, np.float32).ravel())
            vectors = pyarrow.FixedSizeListArray.from_arrays(values, rows.dimension)
            names = pyarrow.array(paths, pyarrow.string())
            writer.write_table(pyarrow.Table.from_arrays([names, vectors], schema=schema))
