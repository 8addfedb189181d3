"""A model that grows: new queries and candidates join it, candidates change and retire, and nothing is trained.

Values in, values out: `extension.grown` and `candidates.changed` leave the old one as it is. Serving imports `growing`
alone, and the others when it grows.
"""
