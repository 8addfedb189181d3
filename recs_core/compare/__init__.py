"""The comparison report: the same run on every backend, each in its own process, held to one another and the oracle.

docs/report.md says what it shows; `recs compare` makes it.
"""
