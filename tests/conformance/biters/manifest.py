"""Biters of checks/manifest.py."""

from biters.edits import backend

BITERS = {
    "manifest/backend": (
        "a factory without an attribute",
        [backend('"numpy_backend:NumpyBackend"', '"numpy_backend"')],
    ),
    "manifest/capabilities": (
        "a capability that is not declared",
        [backend("dict.fromkeys(BACKEND_CAPABILITIES, True)", "dict.fromkeys(list(BACKEND_CAPABILITIES)[1:], True)")],
    ),
    "manifest/protocols": ("a tower without `native`", [backend("        self.native = self._native\n", "")]),
    "manifest/index": (
        "an index by distance",
        [backend("        is_exact=True,\n", '        is_exact=True,\n        metric="l2",\n')],
    ),
}
