"""What a shop knows when it is asked: the time of the request, and the device that asks.

Online Retail has times and no devices, so a device is made up: what lights a home is bought by phone, mostly.
"""

import numpy as np
import pyarrow as pa

import recs_core as recs

sales = recs.datasets.load("online-retail")
sales = sales.take(sales.timestamps >= np.datetime64("2011-11-01").astype("datetime64[s]").astype(float))
names = dict(zip(sales.candidates["item_id"].to_pylist(), sales.candidates["description"].to_pylist(), strict=True))

rows = sales.to_table()
lit = [any(word in (names[item] or "") for word in ("LIGHT", "CANDLE", "LAMP")) for item in rows["item_id"].to_pylist()]
mostly = np.random.default_rng(0).random(len(rows)) < 0.9
rows = rows.append_column("device", pa.array(np.where(lit & mostly, "phone", "desk")))

data = recs.Interactions.from_table(rows, query="customer_id", candidate="item_id", timestamp="time")
train, test = data.filter(min_per_query=5, min_per_candidate=5).split(by="time", at="2011-12-01", known_only=True)

model = recs.recipe("features", train, context=["device", "time"])
model.fit(train, epochs=2)
print(
    f"recall@20 {model.evaluate(test, exclude=train, k=[20])['recall@20']:.3f}, asked with each row's device and time"
)

who = [test.query_ids.ids[int(test.query_codes[0])].as_py()]
for device in ("phone", "desk"):
    found = model.recommend(who, k=4, context={"device": [device]}, at="2011-12-01T10:00", exclude="seen")
    print(device, *(names[item] for item in found.ids[0].tolist()), sep=" | ")
print("nothing known of the request:", names[model.recommend(who, k=1, context="blank").ids[0, 0]])
