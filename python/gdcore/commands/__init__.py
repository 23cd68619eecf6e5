"""Commands of the command line that work on tables in files: ``gdcore train``, ``evaluate``, ``predict``, ``export``.

docs/command-line.md describes them. pyarrow reads and writes the files, and is imported when a command runs.
"""
