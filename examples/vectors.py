"""Given vectors: descriptions of items as TF-IDF and SVD, by which an item that nobody has bought is found.

Any vectors do: those of a language model, of images, of another recommender.
"""

import re

import numpy as np

import recs_core as recs

sales = recs.datasets.load("online-retail")
names = dict(zip(sales.candidates["item_id"].to_pylist(), sales.candidates["description"].to_pylist(), strict=True))

texts = [set(re.findall(r"[a-z]+", (text or "").lower())) for text in names.values()]
words = sorted(set().union(*texts))
counts = np.array([[word in text for word in words] for text in texts], np.float32)
u, s, _ = np.linalg.svd(counts * np.log(len(texts) / counts.sum(0)), full_matrices=False)
vectors = (u * s)[:, :128]

items = {"item_id": list(names), "price": sales.candidates["price"], "about": list(vectors)}
data = recs.Interactions.from_table(
    sales.to_table(), query="customer_id", candidate="item_id", timestamp="time", candidates=items
).filter(min_per_query=5, min_per_candidate=5)
train, test = data.split(by="time", at="2011-11-10")

model = recs.recipe("features", train)
model.fit(train, epochs=2)
print(model.evaluate(test, exclude=train, k=[20], by="warmth"))

sign = next(row for row, text in enumerate(texts) if {"metal", "sign"} <= text)
features = {"item_id": ["not sold yet"], "price": [2.0], "about": [vectors[sign]]}
scores = model.encode_candidate() @ model.encode_candidate(features=features)[0]
for code in np.argsort(-scores)[:3].tolist():
    print("beside a new metal sign:", names[model.schema.candidates.ids[code].as_py()])
