"""Biters of checks/growth.py: a model that grows."""

from biters.edits import EMBED, backend

BITERS = {
    "growth/extend": (
        "the size of the first table of a plan is kept: later items are read from its last row",
        [
            backend(
                EMBED,
                "        if 'table/customer' in self.weights and 'tags' in whole.codes:\n"
                "            sizes = NumpyTower.__dict__.get('sizes') or {}\n"
                "            NumpyTower.sizes = sizes\n"
                "            most = sizes.setdefault(self.plan, len(self.weights['table/item'])) - 1\n"
                "            codes = {**whole.codes, 'item': np.minimum(whole.codes['item'], most)}\n"
                "            whole = dataclasses.replace(whole, codes=codes)\n" + EMBED,
            )
        ],
    ),
}
