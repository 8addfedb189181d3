"""The contract: all that the author of a backend, an index or a feature imports, and nothing above it.

`features`, `feature_kinds`, `towers`, `retrieval`, `optimizers`, `training`: what a user declares. `batch`, `task`,
`weights`: what a backend computes with; `plans`: what it computes. `protocols`, `manifest`: what it offers. `columns`,
`vocabulary`: what a feature reads. `errors`, `randomness`, `guard`: what everyone uses.
"""
