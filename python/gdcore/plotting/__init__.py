"""All figures of results; imported when one is drawn, for matplotlib is slow to import. Imports no result."""
