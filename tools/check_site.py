"""Check the built documentation site: links lead somewhere and are not called by names of source files; pages load
nothing from other hosts.

Usage: tools/check_site.py FOLDER
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class Page(HTMLParser):
    """A page: its anchors, its links, and what a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors, self.links, self.loads = set[str](), set[str](), set[str]()
        self.texts, self.text = list[str](), ""  # of links; of the element that is being read
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort the attributes of an element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        kept = self.links if tag == "a" else self.loads
        kept |= {values[name] for name in ("href", "src") if values.get(name)}
        self.text = "" if tag == "a" else self.text

    def handle_data(self, data: str) -> None:
        """Add to the text of an element."""
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        """Keep the text of a link."""
        if tag == "a":
            self.texts.append(self.text.strip())


def problems(folder: Path) -> list[str]:
    """Return what is wrong with the pages in a folder."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html") if "_static" not in path.parts}
    found = [] if pages else [f"no pages in {folder}"]
    for path, page in pages.items():
        found += [f"{path}: loads {each}" for each in page.loads if urlsplit(each).netloc]
        found += [f"{path}: a link is called {text}" for text in page.texts if text.endswith(".md")]
        for link in page.links | page.loads:
            if urlsplit(link).scheme or urlsplit(link).netloc:
                continue
            file, anchor = urldefrag(link)
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            if not target.exists():
                found.append(f"{path}: no file {link}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                found.append(f"{path}: no anchor {link}")
    print(f"{len(pages)} pages, {sum(len(page.links) for page in pages.values())} links")
    return found


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    found = problems(Path(sys.argv[1]))
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
