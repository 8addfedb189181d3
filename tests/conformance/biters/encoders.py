"""Biters of checks/encoders.py."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import encoders, towers, training

QKV = '    (q, back_q), (k, back_k), (v, back_v) = (weights.linear(f"{name}/{of}", a) for of in ("query", "key", "value"))\n'
ACTIVE = "    active = h * _sigmoid(h) if swiglu else np.maximum(h, 0)\n"

BITERS = {
    "encoders/attention": (
        "keys and values that are not normalised, as SASRec's own",
        [
            encoders(
                QKV,
                '    q, back_q = weights.linear(f"{name}/query", a)\n'
                '    (k, back_k), (v, back_v) = (weights.linear(f"{name}/{of}", x) for of in ("key", "value"))\n',
            )
        ],
    ),
    "encoders/heads": (
        "scores divided by the root of the whole width",
        [encoders("    root = np.sqrt(d // heads)\n", "    root = np.sqrt(d)\n")],
    ),
    "encoders/rotary": (
        "neighbouring columns are pairs",
        [
            encoders(
                "                a, b = x[t, h * e + k], x[t, h * e + k + e // 2]\n"
                "                out[t, h * e + k] = a * np.cos(angle) - b * np.sin(angle)\n"
                "                out[t, h * e + k + e // 2] = b * np.cos(angle) + a * np.sin(angle)\n",
                "                a, b = x[t, h * e + 2 * k], x[t, h * e + 2 * k + 1]\n"
                "                out[t, h * e + 2 * k] = a * np.cos(angle) - b * np.sin(angle)\n"
                "                out[t, h * e + 2 * k + 1] = b * np.cos(angle) + a * np.sin(angle)\n",
            )
        ],
    ),
    "encoders/two-histories": (
        "both read the weights of the last",
        [
            towers(
                'own = {name[start:]: value for name, value in weights.items() if name.startswith(f"{self.prefix}/")}',
                'own = {n.split("/", 3)[3]: value for n, value in weights.items() if n.startswith(f"{side}/encoder/")}',
            )
        ],
    ),
    "encoders/large": (
        "columns beyond 128 of half a head are forgotten",
        [encoders("            for k in range(e // 2):\n", "            for k in range(min(128, e // 2)):\n")],
    ),
    "encoders/learned-positions": (
        "places counted from the newest code",
        [
            encoders(
                '    x = (x + weights.values["position"][:n] if learned else x)',
                '    x = (x + weights.values["position"][:n][::-1] if learned else x)',
            ),
            encoders('weights.gradients["position"][:n] += d', 'weights.gradients["position"][:n] += d[::-1]'),
        ],
    ),
    "encoders/gate": (
        "the gate reads what is normalised",
        [
            encoders(
                "    z, back_z = self.linear(name, x)\n",
                "    z, back_z = self.linear(name, x / np.sqrt(x.var(axis=1, keepdims=True) + 1))\n",
            )
        ],
    ),
    "encoders/swiglu": (
        "a sigmoid for silu",
        [encoders(ACTIVE, "    active = _sigmoid(h) if swiglu else np.maximum(h, 0)\n")],
    ),
    "encoders/gru": (
        "reset before the product with the state",
        [
            encoders(
                "        fresh = np.tanh(a[:, new] + reset * b[:, new])\n",
                '        before_product = (reset * before) @ weights.values[f"{name}/state/kernel"][:, new]\n'
                "        fresh = np.tanh(a[:, new] + before_product)\n",
            )
        ],
    ),
    "encoders/dropout": (
        "masks that are not scaled",
        [towers("        scale = 1 / (1 - spec.dropout)\n", "        scale = 1.0\n")],
    ),
    "encoders/places": (
        "the last code of a longest history is lost",
        [
            towers(
                "        every = np.concatenate([*out, np.zeros((1, feature.width))])  # −1 reads the last: zeros\n",
                "        every = np.concatenate([*out, np.zeros((1, feature.width))])  # −1 reads the last: zeros\n"
                "        full = np.flatnonzero(np.diff(offsets) == column.encoder.length)\n"
                "        if len(offsets) == 7 and len(full) > 1:\n"
                "            every[offsets[full + 1] - 1] = every[offsets[full + 1] - 2]\n",
            )
        ],
    ),
    "encoders/training": (
        "no decay of the weights of an encoder",
        [
            training(
                "        new_weights[name], slots = optimizers.update(\n            optimizer, name,",
                '        new_weights[name], slots = optimizers.update(\n            optimizer, name.replace("query/encoder", "task"),',
            )
        ],
    ),
    "encoders/time-history": (
        "buckets counted from 1",
        [
            encoders(
                "    row = np.minimum(TIME_BUCKETS - 1, np.floor(",
                "    row = np.minimum(TIME_BUCKETS - 1, 1 + np.floor(",
            )
        ],
    ),
    "encoders/time-request": (
        "times between codes, and not from the request",
        [towers("sequences.asked[a:b, None] - sequences", "sequences.times[a:b, None] - sequences")],
    ),
    "encoders/gru-in-use": (
        "what a layer of a GRU gives is not masked",
        [encoders("    return out * keep, back\n", "    return out, back\n")],
    ),
}
