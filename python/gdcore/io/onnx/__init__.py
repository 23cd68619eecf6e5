"""ONNX files of models and ensembles: graph.py collects nodes, layers.py adds each layer's formula, files.py writes.

A new layer is one function and one line in the table of layers.py. tables.py adds the encoding of a table's columns.
"""
