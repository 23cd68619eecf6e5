"""Data larger than memory: Parquet files, read in windows of row groups by a thread that is one window ahead."""
