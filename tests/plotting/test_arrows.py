"""Promise: figures are drawn from results without importing them, and no result imports its figure before it is drawn;
training, saving and measuring therefore never wait for matplotlib."""

from __future__ import annotations

import re
from pathlib import Path

import gdcore as gd
import helpers

PACKAGE = Path(gd.__file__).parent


def test_no_module_imports_a_figure_with_itself() -> None:
    rooms = [
        path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in ("plotting", "chapter")
    ]
    assert len(rooms) > 80
    for path in rooms:
        found = re.findall(r"^from \.+plotting.*", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not found, f"{path.relative_to(PACKAGE)}: {found}"


def test_analysis_and_experiments_do_without_matplotlib() -> None:
    helpers.must_run(
        """
        import sys
        from gdcore import analysis, experiments
        assert not {"matplotlib", "gdcore.plotting"} & set(sys.modules)
        """
    )
