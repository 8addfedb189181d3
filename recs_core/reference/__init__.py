"""The oracle: every meaning of docs/meanings.md in float64 NumPy, written from its formula, slow and plain.

It shares no code with what it judges: of the core it uses the declarations (`recs_core.contract`) and the containers
(`recs_core.contract.batch`) alone. In reading order:

    towers      features → vectors, and the gradient of every weight
    task        vectors → loss, and its gradients, one target at a time
    optimizers  gradient → new weight and slots
    training    a whole step on a batch, and a run of steps
    scoring     vectors as an index sees them
    topk        exact top-k with exclusions and allow-lists
    diversity   maximal marginal relevance
    metrics     a ranking → recall, NDCG, …

tests/reference holds it against finite differences, hand-worked cases and `tfrs.tasks.Retrieval`.
"""
