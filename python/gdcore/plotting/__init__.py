"""All figures of results, imported when one is drawn, as matplotlib is slow to import. Imports no result."""
