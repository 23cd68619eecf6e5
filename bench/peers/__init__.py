"""Whole training steps of gdcore and of other libraries, side by side: ``python -m bench.peers --out NAME``.

`cases` says which networks, `measure` how they are timed, `peer_*` how each library trains them, `report` what is
shown.
"""
