"""Given vectors: descriptions of items as TF-IDF and SVD, by which items that nobody has bought are told apart.

Any vectors do: those of a language model, of images, of another recommender.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import recs_core as recs

sales = recs.datasets.load("online-retail")
names = dict(zip(sales.candidates["item_id"].to_pylist(), sales.candidates["description"].to_pylist(), strict=True))

texts = [set(re.findall(r"[a-z]+", (text or "").lower())) for text in names.values()]
words = sorted(set().union(*texts))
counts = np.array([[word in text for word in words] for text in texts], np.float32)
u, s, _ = np.linalg.svd(counts * np.log(len(texts) / counts.sum(0)), full_matrices=False)
vectors = (u * s)[:, :128]

items = {"item_id": list(names), "price": sales.candidates["price"], "about": vectors}
data = recs.Interactions.from_table(
    sales.to_table(), query="customer_id", candidate="item_id", timestamp="time", candidates=items
).filter(min_per_query=5, min_per_candidate=5)
train, test = data.split(by="time", at="2011-11-10")

query = recs.TowerSpec([recs.History("item_id", dim=64, share=None)], layers=[64])
candidate = recs.TowerSpec([recs.Vector("about", dim=64, normalise=True), recs.Numeric("price")], layers=[64])
model = recs.TwoTower(query, candidate, recs.RetrievalSpec(scoring="cosine", temperature=0.1, negatives="corpus"))
model.fit(train, epochs=4, batch_by="query", batch_size=256)

sold, later = set(train.to_table()["item_id"].to_pylist()), test.to_table()
new = [item for item in later["item_id"].unique().to_pylist() if item not in sold]
took = later.filter(pc.is_in(later["item_id"], pa.array(new))).group_by("customer_id")
bought = took.aggregate([("item_id", "distinct")]).to_pydict()
found = model.recommend(bought["customer_id"], k=5, allow=new, unknown="quiet").ids
hits = [len({*row} & {*due}) / len(due) for row, due in zip(found, bought["item_id_distinct"], strict=True)]
print(f"recall@5 among {len(new)} new items: {np.mean(hits):.3f} (chance {5 / len(new):.3f})")

sign = next(row for row, text in enumerate(texts) if {"metal", "sign"} <= text)
features = {"item_id": ["not sold yet"], "price": [2.0], "about": [vectors[sign]]}
scores = model.encode_candidate() @ model.encode_candidate(features=features)[0]
for code in np.argsort(-scores)[:3].tolist():
    print("beside a new metal sign:", names[model.schema.candidates.ids[code].as_py()])
