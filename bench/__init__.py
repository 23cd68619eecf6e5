"""Benchmarks of gdcore: `bench.peers` against other libraries."""
