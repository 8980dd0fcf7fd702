"""Which of some photographs shows the place of another? As the first Keras port's example.py.

    python examples/retrieve.py model.onnx query.jpg db1.jpg db2.jpg

Prints the L2 distance of each to the query, nearest first, and draws them to matches.png. The
model is any file that a conversion made; with the ONNX file, ONNX Runtime is all that runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from netvlad_keras import NetVLADError, load_image
from netvlad_keras.engines import open_model
from netvlad_keras.picture import Found, draw


def main(model: str, query: str, *database: str) -> None:
    engine = open_model(model)
    # One by one, since photographs may differ in size. Descriptors have length 1.
    descriptors = {path: engine.describe(load_image(path)[None])[0] for path in (query, *database)}
    distances = {
        path: float(np.linalg.norm(descriptors[path] - descriptors[query])) for path in database
    }
    ranking = sorted(distances, key=lambda path: (distances[path], path))
    for path in ranking:
        print(f"{distances[path]:.4f}  {path}")
    draw(
        [Found(Path(query), [(Path(path), distances[path]) for path in ranking])],
        Path("matches.png"),
    )


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except NetVLADError as error:
        sys.exit(str(error))
