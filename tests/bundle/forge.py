"""Bundles with valid digests and wrong contents."""

from __future__ import annotations

import hashlib
import json

from recs_core.storage import manifest


def resign(folder, change):
    """Change the manifest's fields and sign it again."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_bytes())
    del fields["digest"]
    change(fields)
    text = json.dumps({**fields, "digest": ""}, indent=2, ensure_ascii=False).encode()[: -len('"\n}')]
    path.write_bytes(text + hashlib.sha256(text).hexdigest().encode() + b'"\n}\n')


def replace(folder, part, data):
    """Put other bytes where the weights (or another part, or "ids" of the queries) are, named and signed correctly."""
    fields = manifest.read(folder)[1]
    old = fields["schema"]["queries"] if part == "ids" else fields["contents"][part]
    sha256 = hashlib.sha256(data).hexdigest()
    new = f"{part}-{sha256[:16]}.{old.rsplit('.')[-1]}"
    (folder / old).unlink()
    (folder / new).write_bytes(data)

    def change(fields):
        text = json.dumps(fields).replace(old, new)
        fields.clear()
        fields.update(json.loads(text))
        fields["files"][new] = {"length": len(data), "sha256": sha256}

    resign(folder, change)
