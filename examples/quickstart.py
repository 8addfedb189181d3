"""From a Parquet file of purchases to a trained, evaluated, recommending model."""

import sys

import recs_core as recs

path = sys.argv[1] if len(sys.argv) > 1 else "purchases.parquet"
data = recs.Interactions.from_table(path, query="customer_id", candidate="item_id", timestamp="time")
data = data.filter(min_per_query=5, min_per_candidate=5)
train, test = data.split(by="time", test=0.1, known_only=True)

model = recs.recipe("history", train)
model.fit(train, progress=True)

metrics = model.evaluate(test, exclude=train)
print(f"recall@20 {metrics['recall@20']:.3f}   ndcg@20 {metrics['ndcg@20']:.3f}")

customers = train.query_ids.ids[:3].to_pylist()
for customer, items in zip(customers, model.recommend(customers, k=5, exclude=train).ids, strict=True):
    print(customer, *items)
