"""``python -m bench.tables.worker TABLE METHOD SEED``: one fit in a process of its own; prints a line of JSON.

Times are those of fit and prediction, without loading the table and without importing the library.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings


def measure(table: str, method: str, seed: int) -> dict[str, object]:
    """Return the score on the test rows and the times."""
    from bench.tables import methods, tables

    split = tables.split(table, seed)
    for module in methods.IMPORTS[method]:
        importlib.import_module(module)
    wall, processor = time.perf_counter(), time.process_time()
    predicted = methods.METHODS[method](split, seed)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    facts = {"table": table, "method": method, "seed": seed, "rows": len(split.y), "columns": split.x.shape[1]}
    found = tables.score(split.y_test, predicted, split.classes)
    return facts | {"score": found, "seconds": wall, "processor_seconds": processor}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.stdout, out = sys.stderr, sys.stdout  # what libraries print is no result
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))), file=out)
