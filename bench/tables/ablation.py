"""``python -m bench.tables.ablation --out NAME``: what each ingredient of the recipe is worth, on validation rows.

Each ingredient is taken out of `TabularModel`, alone, and the error on rows held out of the training rows of
`bench.tables` (no test row is seen) is divided by that of the whole recipe. ``NAME.json`` gets each result as it comes,
a second run measures what is missing; ``NAME.md`` has the table, ``NAME.png`` the picture.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bench.tables import report, tables

WHOLE = "the whole recipe"
ROWS = 6000
"""Most rows to train on, and to measure on."""


def of_recipe(**changes: Any) -> dict[str, Callable[..., Any]]:
    """Return the functions of `gdcore.tables.model` with other values in the recipe."""
    from gdcore.tables import model

    original = model.recipe
    return {"gdcore.tables.model.recipe": lambda facts: replace(original(facts), **changes)}


def of_layout(**changes: Any) -> dict[str, Callable[..., Any]]:
    """Return the functions of `gdcore.tables.model` with other values in the layout."""
    from gdcore.tables import model

    original = model.layout
    return {"gdcore.tables.model.layout": lambda facts: replace(original(facts), **changes)}


def ablations() -> dict[str, dict[str, Any]]:
    """Return by name what each ablation replaces."""
    import gdcore as gd

    return {
        WHOLE: {},
        "no piecewise-linear encoding": of_layout(bins=0),
        "8 bins": of_layout(bins=8),
        "one network, not several": of_recipe(members=1),
        "two networks": of_recipe(members=2),
        "cosine, not coslog4": {"gdcore.tables.training.coslog4": gd.schedules.cosine},
        "batches of 256": of_recipe(batch_size=256),
        "ReLU, not GELU": of_recipe(activation=gd.ReLU),
        "no dropout": of_recipe(dropout=0.0),
        "no weight decay": of_recipe(weight_decay=0.0),
        "β₂ 0.999": of_recipe(betas=(0.9, 0.999)),
        "one hidden layer": of_recipe(widths=(256,)),
    }


def validation_split(name: str, seed: int = 0) -> tables.Split:
    """Return 70 % of the training rows of `name`, and the others in place of test rows, each at most `ROWS`."""
    from sklearn.model_selection import train_test_split

    given = tables.split(name, 0)
    stratify = given.y if given.classes else None
    x, held, y, y_held = train_test_split(given.x, given.y, test_size=0.3, random_state=1000 + seed, stratify=stratify)
    first, second = (np.random.default_rng(0).permutation(len(part))[:ROWS] for part in (y, y_held))
    x, held = (part.iloc[rows].reset_index(drop=True) for part, rows in ((x, first), (held, second)))
    return tables.Split(x, y[first], held, y_held[second], given.classes)


def measure(name: str, replaced: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the error of `TabularModel` with something replaced, and the processor time of its fit."""
    from gdcore.tables import TabularModel

    split = validation_split(name, seed)
    task = "classification" if split.classes else "regression"
    with ExitStack() as stack:
        for target, value in replaced.items():
            stack.enter_context(mock.patch(target, value))
        started = time.process_time()
        model = TabularModel(task=task, seed=seed, device="cpu", n_jobs=1).fit(split.x, split.y)
        seconds = time.process_time() - started
    predicted = model.predict_proba(split.x_test) if split.classes else model.predict(split.x_test)
    return {"error": 1 - tables.score(split.y_test, predicted, split.classes), "processor_seconds": seconds}


def quotients(results: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return each error divided by that of the whole recipe on the same rows, by ablation."""
    whole = {(r["table"], r["seed"]): r["error"] for r in results if r["without"] == WHOLE}
    found: dict[str, list[float]] = {}
    for result in results:
        if (result["table"], result["seed"]) in whole:
            of_whole = whole[result["table"], result["seed"]]
            found.setdefault(result["without"], []).append(result["error"] / of_whole)
    return found


def as_markdown(results: list[dict[str, Any]]) -> str:
    """Return a table: geometric mean, worst and best table of each ablation, and its time."""
    lines = ["| | error / whole recipe's | least | most | tables worse | processor seconds |", "|---" * 6 + "|"]
    for name, values in quotients(results).items():
        seconds = np.mean([r["processor_seconds"] for r in results if r["without"] == name])
        worse = f"{sum(value > 1 for value in values)} of {len(values)}"
        mean = f"{report.geometric_mean(values):.3f}"
        lines.append(f"| {name} | {mean} | {min(values):.2f} | {max(values):.2f} | {worse} | {seconds:.1f} |")
    return "\n".join(lines) + "\n"


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draw a point for each table and the geometric mean of each ablation."""
    from gdcore.plotting import figures

    found = {name: values for name, values in quotients(results).items() if name != WHOLE}
    if not found:
        return
    names = sorted(found, key=lambda name: report.geometric_mean(found[name]))
    axes = figures.new_axes(True, "bench.tables.ablation", size=(7.5, 4.4))
    for i, name in enumerate(names):
        axes.scatter(found[name], [i] * len(found[name]), color=figures.COLOURS[0], s=14, alpha=0.4)
        axes.scatter([report.geometric_mean(found[name])], [i], color=figures.COLOURS[1], marker="D", s=45)
    axes.set_xscale("log")
    axes.set_xticks(ticks := [0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.7, 2], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="0.6", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    figures.dress(
        axes,
        "Taken out of the recipe: each table, and the geometric mean",
        "error / the whole recipe's",
        "",
        grid="x",
        legend=False,
    )
    figures.save(axes, path)


def main(argv: list[str] | None = None) -> int:
    """Measure what is missing, write and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tables.ablation", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="path without ending")
    parser.add_argument("--tables", default=",".join(tables.ALL))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", default="", help="ablations with one of these texts, separated by commas")
    options = parser.parse_args(argv)
    path = options.out.with_suffix(".json")
    results: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    known = {(r["without"], r["table"], r["seed"]) for r in results}
    for without, replaced in ablations().items():
        if without != WHOLE and not any(text in without for text in options.only.split(",")):
            continue
        for table in options.tables.split(","):
            for seed in map(int, options.seeds.split(",")):
                if (without, table, seed) not in known:
                    result = {"without": without, "table": table, "seed": seed}
                    results.append(result | measure(table, replaced, seed))
                    path.write_text(json.dumps(results, indent=1) + "\n")
    text = as_markdown(results)
    print(text)
    options.out.with_suffix(".md").write_text(text)
    draw(results, options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
