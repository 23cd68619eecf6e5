"""``python -m gdcore``: the same as the command ``gdcore``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
