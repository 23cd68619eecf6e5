"""`TablePredictor`: predictions of a fitted model of tables, what it measures, and its file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..ensembles.ensemble import Ensemble
from ..internal.arguments import explained
from ..internal.arrays import Array, TakesTables
from ..internal.arrays import Data as DataLike
from ..internal.attributes import Closed, Hinted
from ..internal.checks import integer, seed_or_random
from ..internal.display import paragraph
from ..internal.features import FeatureNames
from ..metrics import Metrics
from ..metrics.names import named
from ..parquet.source import Parquet
from ..table import Table
from .columns import Column, Frame, read, read_column
from .encoding import Encoding
from .given import checked_weights, names_in, numbers_in, same_length
from .importance import Importances, measure
from .roles import Roles
from .targets import Judged, Target, read_target
from .values import check_meaning
from .windows import Coded, TableRows, columns_read

if TYPE_CHECKING:
    from ..io.destination import FileLike

__all__ = ["METRICS", "TablePredictor"]

WEIGHTS = "sample_weight"
SAMPLE = 100_000  # rows of files that tell the importances
METRICS = {"classification": ("accuracy",), "regression": ("r2",)}
TELLING = {"classification": "log_loss", "regression": "r2"}  # what tells the importances


class Turns:
    """A lock for the networks, which one thread may use at a time; it is copied and pickled as another lock."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies and pickles."""
        return Turns, ()

    def __enter__(self) -> None:
        """Wait for the other threads."""
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        """Let the next thread go on."""
        self._lock.release()


@explained
class TablePredictor(Hinted, Closed, TakesTables):
    """A fitted model of tables: the encoding of columns, networks, and the target; the base of `TabularModel`.

    Threads may share it: their predictions take turns.
    """

    __slots__ = ("_encoding", "_ensemble", "_ignored", "_target", "_turns")
    _target: Target | None
    _encoding: Encoding | None
    _ensemble: Ensemble | None
    _turns: Turns
    _ignored: tuple[str, ...]  # columns of the table that are no inputs

    @property
    def fitted(self) -> bool:
        """Whether `fit` has been called, or the model comes from a file."""
        return self._ensemble is not None

    def _parts(self) -> tuple[Target, Encoding, Ensemble]:
        if self._target is None or self._encoding is None or self._ensemble is None:
            raise RuntimeError("the model is not fitted yet; call fit(x, y) first")
        return self._target, self._encoding, self._ensemble

    @property
    def ensemble(self) -> Ensemble:
        """The networks; their inputs are encoded rows, see `encode`."""
        return self._parts()[2]

    @property
    def classes(self) -> Array | None:
        """The classes in the order of `predict_proba`, in the type of the targets; None for numbers."""
        target = self._parts()[0]
        return None if target.classes is None else target.class_array()

    @property
    def feature_names(self) -> FeatureNames:
        """Names of the columns, in the order of training; their positions for an array."""
        return self._parts()[1].names

    def columns(self) -> Table:
        """Return a row for each column: its name, its kind, and the number of inputs that it is encoded as.

        A column with 0 inputs has one value in all training rows, or text that never repeats: it is not used.
        """
        encoding = self._parts()[1]
        return Table({"column": c.name, "kind": c.kind, "inputs": c.width} for c in encoding.columns)

    def _repr_html_(self) -> str:
        """Return what ``repr`` does, and the columns, for notebooks."""
        return paragraph(repr(self)) + (self.columns()._repr_html_() if self.fitted else "")

    def _outputs(self, inputs: Array) -> Array:
        """Return the outputs of the networks for encoded rows."""
        ensemble = self._parts()[2]
        with self._turns:
            return ensemble.predict(inputs)

    # ---- Predictions ------------------------------------------------------------------------------------------------
    def encode(self, x: Any) -> Array:
        """Return the inputs of the networks for the rows of a table, float32 (rows, width).

        Parameters
        ----------
        x : frame, dictionary of columns, array or Parquet
            A table with the columns of training, in any order. The target, where it was given as a column, may be
            there; it is ignored. Columns of arrays are matched by position. `gdcore.data.Parquet` is read in windows,
            but the result has all rows; ``for table in x.windows(tables=True): model.encode(table)`` has some at a
            time.

        Raises
        ------
        TypeError, ValueError
            If a column is missing or unknown, or a value does not fit its column, which the message names.
        """
        return self._computed(x, np.copy) if isinstance(x, Parquet) else self._encoded(x)[0]

    def _encoded(self, x: Any, name: str = "x", also: Sequence[str] = ()) -> tuple[Array, Frame]:
        """Return the inputs of the networks, and the table as given; columns of no input, and `also`, are ignored."""
        encoding = self._parts()[1]
        frame = given = read(x, name)
        for ignored in dict.fromkeys((*self._ignored, *also)):
            if frame.named and ignored in frame.names and ignored not in encoding.names:
                frame = frame.without(ignored)[1]
        return encoding.encode(encoding.arranged(frame, name), name), given

    def _computed(self, x: Any, work: Callable[[Array], Array]) -> Array:
        """Return what `work` returns for the encoded rows of a table, or of each window of files, in one array."""
        if not isinstance(x, Parquet):
            return work(self.encode(x))
        encoding = self._parts()[1]
        ignored = (*x.y, *([] if x.sample_weight is None else [x.sample_weight]), *self._ignored)
        names = columns_read(encoding, x.x, ignored, "x")
        x._files.check_meanings(names, "x", times=True)
        return TableRows(x, Coded(encoding, names)).computed(work)

    @explained
    def predict(self, x: Any) -> Array:
        """Return the most probable class of each row, in the type of the targets, or the predicted numbers.

        Arguments and errors are those of `encode`; `gdcore.data.Parquet` is read in windows. Numbers have shape
        (rows,), or (rows, K) for several targets.
        """
        target = self._parts()[0]

        def predicted(inputs: Array) -> Array:
            outputs = self._outputs(inputs)
            if target.classes is None:
                return target.shaped(target.decode(outputs))
            found: Array = target.class_array()[outputs.argmax(axis=1)]
            return found

        return self._computed(x, predicted)

    def predict_proba(self, x: Any) -> Array:
        """Return the probability of each of ``classes``, float32 (rows, C).

        Arguments and errors are those of `predict`; ValueError if numbers are predicted.
        """
        target, _, ensemble = self._parts()
        if target.classes is None:
            raise ValueError("predict_proba: got a model of numbers, which have no probabilities; use predict")

        def predicted(inputs: Array) -> Array:
            with self._turns:
                return ensemble.predict_proba(inputs)

        return self._computed(x, predicted)

    def evaluate(
        self, x: Any, y: Any = None, *, metrics: Metrics | None = None, sample_weight: DataLike | str | None = None
    ) -> dict[str, float]:
        """Measure the predictions for rows of a table.

        Parameters
        ----------
        x : frame, dictionary of columns, array or Parquet
            As for `predict`.
        y : array, str or list of str, optional
            The truth, as for `fit`; by default the column of `x` that `fit` got as target, or that of
            `gdcore.data.Parquet`.
        metrics : sequence or mapping, optional
            As for `gdcore.Trainer`; by default "accuracy" or "r2".
        sample_weight : array or str, optional
            Weight of each row, at least 0, or the name of a column of `x`.

        Returns
        -------
        dict
            "loss" (cross-entropy, or squared error in the unit of `y`) and the metrics by name.
        """
        target = self._parts()[0]
        wanted = METRICS[target.task] if metrics is None else metrics
        if isinstance(x, Parquet):
            return self._judged(*self._measured(self._rows_of(x, y, sample_weight), self._outputs), wanted)
        inputs, truth, weights = self._measurable(x, y, sample_weight)
        return self._judged(self._outputs(inputs), truth, weights, wanted)

    def _rows_of(self, x: Parquet, y: Any, weights: Any) -> TableRows:
        """Return the rows of files with targets and weights."""
        target, encoding, _ = self._parts()
        roles = Roles.of(x, target.name if y is None and not x.y else y, weights, without=self._ignored)
        names = columns_read(encoding, roles.x, (), "x")
        encode = target.numbers if target.classes is None else target.encode
        return TableRows(x, Coded(encoding, names, roles.y, encode, roles.weight))

    def _measured(self, rows: TableRows, work: Callable[[Array], Array]) -> tuple[Array, Array, Array | None]:
        """Return what `work` returns for the rows of files, read in windows, the truth and the weights."""
        target = self._parts()[0]
        outputs, truth, found = rows.measured(work)
        if target.classes is not None:
            return outputs, target.class_array()[truth], found
        return outputs, truth if target.columns else truth[:, 0], found

    def _measurable(self, x: Any, y: Any, weights: Any) -> tuple[Array, Array, Array | None]:
        target = self._parts()[0]
        names = [y, weights, *(y if isinstance(y, (list, tuple)) else ())]
        inputs, frame = self._encoded(x, also=[each for each in names if isinstance(each, str)])
        if y is None and target.name in frame.names:
            y = target.name
        if several := names_in(y, frame, "y", numbers=target.classes is None):
            y = several[0] if len(several) == 1 else numbers_in(frame, several, "y")
        column = frame.column(y, "y") if isinstance(y, str) else read_target(y)
        truth = column.values if isinstance(column, Column) else column
        same_length("y", len(truth), frame.rows)
        if target.classes is None:
            numbers = target.numbers(column)  # of durations too, in seconds, and of text
            truth = numbers if truth.ndim == 2 else numbers[:, 0]
        elif isinstance(column, Column):
            check_meaning(column, target.meaning, "y")
        if weights is not None:
            given = frame.column(weights, WEIGHTS) if isinstance(weights, str) else read_column(weights, WEIGHTS)
            same_length(WEIGHTS, len(given.values), frame.rows)
            weights = checked_weights(given.values, WEIGHTS)
        return inputs, truth, weights

    def _judged(
        self, outputs: Array, truth: Array, weights: Array | None, metrics: Metrics, *, scaled: bool = False
    ) -> dict[str, float]:
        """Return the loss and metrics of outputs of the networks; the truth is scaled too, or is as it was given."""
        from ..ensembles.scoring import Judge

        target = self._parts()[0]
        judge = Judge(cast(Any, Judged(target)), None, metrics)
        return judge.measure(outputs if scaled or target.classes else target.decode(outputs), truth, weights)

    def score(self, x: Any, y: Any = None, *, sample_weight: DataLike | str | None = None) -> float:
        """Return the accuracy, or R² of numbers; the arguments are those of `evaluate`."""
        name = METRICS[self._parts()[0].task][0]
        return self.evaluate(x, y, metrics=[name], sample_weight=sample_weight)[name]

    def importances(
        self,
        x: Any,
        y: Any = None,
        *,
        metric: str | None = None,
        sample_weight: DataLike | str | None = None,
        repeats: int = 5,
        seed: int = 0,
    ) -> Importances:
        """Measure how much worse predictions become when the values of a column are permuted (Breiman 2001).

        Parameters
        ----------
        x, y, sample_weight
            As for `evaluate`; rows that the model was not trained on tell more. Of `gdcore.data.Parquet` with more than
            100,000 rows, or more than 8,388,608 encoded numbers, about so many are taken, drawn uniformly with `seed`.
        metric : str, optional
            Name of a metric, by default "log_loss" or "r2". Accuracy sees no change of probabilities that leaves the
            class: where one class is rare, it calls all columns unimportant.
        repeats : int
            Permutations of each column.
        seed : int
            Their seed, and that of the rows.

        Returns
        -------
        Importances
            A value for each column and repeat, in the order of ``feature_names``. Columns that tell the same share
            their importance: each looks unimportant while the other is there.
        """
        target, encoding, _ = self._parts()
        name = TELLING[target.task] if metric is None else metric
        sign = 1.0 if named(name, "metric").better == "max" else -1.0
        seed = seed_or_random(seed)
        if isinstance(x, Parquet):
            rows = self._rows_of(x, y, sample_weight).sample(SAMPLE, seed)
            inputs, truth, weights = self._measured(rows, np.copy)
        else:
            inputs, truth, weights = self._measurable(x, y, sample_weight)

        def score(given: Array) -> float:
            return self._judged(self._outputs(given), truth, weights, [name])[name]

        repeats = integer(repeats, "repeats", minimum=1)
        found = measure(score, inputs, encoding.spans, sign=sign, repeats=repeats, seed=seed)
        return Importances(encoding.names, name, *found)

    # ---- Files ------------------------------------------------------------------------------------------------------
    def save(self, path: FileLike) -> None:
        """Write the model, with the encoding of its columns and all networks, to a safetensors file.

        ``gd.load`` returns a model that predicts the same, to the bit, but cannot be fitted again. Everything else is
        as for `gdcore.Sequential.save`.
        """
        from ..io.tables import save_table

        save_table(self, path)

    def save_onnx(self, path: FileLike, *, outputs: str = "raw") -> None:
        """Write the model, with the encoding of its columns and all networks, to one ONNX file.

        Each column that the model uses is an input of its name, of shape (rows,): float64 for numbers, booleans and
        categories that are numbers (missing: NaN), text for the other categories (missing: ""), int64 for dates, as
        microseconds since 1970 (in UTC if they have a time zone), and for whole numbers beyond 2^53 (missing: -2^63).
        docs/onnx.md has an example.

        Parameters
        ----------
        path : path or binary file
            As for `save`.
        outputs : {"raw", "probabilities"}
            The first output of a file that predicts classes: "outputs", (rows, C), whose softmax are the probabilities,
            or "probabilities", what `predict_proba` returns. The second one, "label", (rows,), is what `predict`
            returns, for dates their text. A file that predicts numbers has one output, "outputs": what `predict`
            returns.

        Raises
        ------
        ImportError
            If the package onnx is not installed (``pip install 'gdcore[onnx]'``).
        OSError
            If the file cannot be written; an old file is then untouched.
        ValueError
            If ONNX has no type for a column, which the message names, such as for text beside numbers; or as for
            `gdcore.Sequential.save_onnx`. No file is written then.
        """
        from ..io.onnx.tables import save_table

        save_table(self, path, outputs)
