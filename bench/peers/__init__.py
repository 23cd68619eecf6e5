"""Whole training steps of gdcore and of other libraries, side by side: ``python -m bench.peers --out NAME``.

`cases` has the networks, `measure` the timing, `peer_*` the training with each library, `report` the output.
"""
