"""Settings of the documentation site, which `nox -s docs` builds from README.md, docs/*.md and the docstrings.

The source folder is the root of the repository, so that links between files work on the site as they do elsewhere.
Pages that only the site has, its front page and its menus, are in docs/site. Nothing is loaded from other hosts.
"""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import gdcore
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"

project, author, release = "gdcore", "gdcore developers", gdcore.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_copybutton"]
extensions += ["sphinx_design"]
root_doc = "docs/site/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "docs/*.md", "docs/site/*.md"]
include_patterns += ["docs/site/api/*.rst", "docs/site/examples/*.md"]  # written by the build
default_role = "py:obj"  # `Trainer` in a docstring links to it
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
templates_path = [str(SITE / "templates")]

autodoc_typehints = "none"  # the lists of parameters have the types
toc_object_entries_show_parents = "hide"
autodoc_member_order = "groupwise"
# Classes whose members are not shown in classes that inherit from them.
OTHERS = ["BaseEstimator", "ClassifierMixin", "RegressorMixin", "_MetadataRequester", "Exception", "Network"]
autodoc_default_options = {
    "members": True,
    "exclude-members": "set_fit_request, set_partial_fit_request, set_score_request",  # of scikit-learn's metadata
    "inherited-members": ", ".join([*OTHERS, "dict", "tuple"]),
}
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "gdcore"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "logo": {"text": f"gdcore {release}"},
    "footer_start": [],
    "footer_end": [],
}
html_sidebars = {"README": [], "CHANGELOG": [], "docs/cookbook": []}


def write_pages(app: Sphinx) -> None:
    """Write a page for each file of examples/, its docstring and its code; remove pages of names that are gone."""
    names = (SITE / "api.md").read_text()
    for path in (SITE / "api").glob("*.rst"):
        if f"   {path.stem.rpartition('.')[2]}\n" not in names:
            path.unlink()
    folder = SITE / "examples"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        title = re.split("[:,.\n]", text)[0]
        code = f"```{{literalinclude}} /examples/{path.name}\n:start-at: import\n```"
        (folder / f"{path.stem}.md").write_text(f"# {title}\n\n`examples/{path.name}`. {text}\n\n{code}\n")


def read_source(app: Sphinx, name: str, source: list[str]) -> None:
    """Change a page before it is parsed.

    Links to examples lead to their pages, and code of several libraries is in tabs. Of the README, the introduction is
    on the front page, and the menus replace the list of pages.
    """
    if name == "README":
        start = source[0][source[0].index("## Two commands") : source[0].index("## More")]
        source[0] = f"# Getting started\n\n{start}"
    text = re.sub(r"\]\((?:\.\./)?examples/(\w+)\.py\)", r"](/docs/site/examples/\1.md)", source[0])
    labelled = r"\*\*([\w-]+)\*\*\n\n(```python\n.*?^```\n)\n?"
    tab = r":::{tab-item} \1\n:sync: \1\n\2:::\n"

    def tabs(match: re.Match[str]) -> str:
        return "::::{tab-set}\n" + re.sub(labelled, tab, match[0], flags=re.DOTALL | re.MULTILINE) + "::::\n\n"

    source[0] = re.sub(f"(?:^{labelled})+", tabs, text, flags=re.DOTALL | re.MULTILINE)


def title_links(app: Sphinx, doctree: nodes.document) -> None:
    """Call pages by their titles where a link shows the name of their file, which is what one reads in the sources."""
    for link in doctree.findall(addnodes.pending_xref):
        if link.get("reftype") == "myst" and link.get("refdomain") == "doc" and link.astext().endswith(".md"):
            link["refexplicit"] = False


def read_docstring(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Escape |x| and val_, which are markup in reStructuredText, and link to the pages named in a docstring."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``.+?``|`[^`]+`)", line)
        parts[::2] = [re.sub(r"\||(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
        lines[i] = re.sub(r"\bdocs/([\w-]+)\.md", r":doc:`/docs/\1`", "".join(parts))


def write_start(app: Sphinx, error: Exception | None) -> None:
    """Write index.html at the top of the site, which leads to the front page, by itself or by its link."""
    (Path(app.outdir) / "index.html").write_text(
        f'''<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={root_doc}.html">
<title>gdcore</title>
</head>
<body>
<p><a href="{root_doc}.html">gdcore: documentation</a></p>
</body>
</html>
'''
    )


def setup(app: Sphinx) -> None:
    """Register the functions above."""
    app.connect("builder-inited", write_pages, priority=100)  # before the pages of the names are written
    app.connect("source-read", read_source)
    app.connect("doctree-read", title_links)
    app.connect("autodoc-process-docstring", read_docstring, priority=900)  # after numpydoc
    app.connect("build-finished", write_start)
