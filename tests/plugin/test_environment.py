"""What frameworks read once is set before their import, left alone when right, and never overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec

import pytest

from recs_core.contract.errors import BackendNotFound, UnsupportedFeature
from recs_core.environment import prepare_keras

VARIABLES = ("KERAS_BACKEND", "TF_USE_LEGACY_KERAS", "JAX_ENABLE_X64")


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def run(code: str, environment: Mapping[str, str] | None = None) -> str:
    """The last line that `code` prints in a new interpreter; an error of ours is printed as `Type: message`."""
    program = "\n".join(
        [
            "import os, sys",
            "from recs_core.environment import prepare_jax_x64, prepare_keras, prepare_tensorflow",
            "from recs_core.contract.errors import RecsError",
            "try:",
            *(f"    {line}" for line in code.splitlines()),
            "except RecsError as error:",
            "    print(f'{type(error).__name__}: {error}')",
        ]
    )
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**clean, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_engines_that_cannot_be() -> None:
    with pytest.raises(UnsupportedFeature, match=r"keras\[numpy\] \(asked for by a test\) cannot train"):
        prepare_keras("numpy", "a test")
    with pytest.raises(BackendNotFound, match=r"no engine 'mxnet' \(asked for by a test\)"):
        prepare_keras("mxnet", "a test")


def test_an_engine_that_is_not_installed() -> None:
    code = "sys.path = [p for p in sys.path if 'site-packages' not in p]\nprepare_keras('jax', 'a test')"
    said = "MissingExtra: keras[jax] (asked for by a test) needs keras and jax, not installed: `pip install keras jax`"
    assert run(code) == said


@pytest.mark.slow
@pytest.mark.parametrize("engine", [pytest.param(name, marks=needs(name)) for name in ("jax", "torch")])
def test_keras_takes_the_engine(engine: str) -> None:
    code = f"prepare_keras('{engine}', 'a test')\nimport keras\nprint(keras.backend.backend())"
    assert run(code) == engine
    assert run(code, {"KERAS_BACKEND": "tensorflow"}) == engine  # an explicit choice outranks the variable


@pytest.mark.slow
@needs("jax", "torch")
def test_keras_imported_with_another_engine() -> None:
    code = "import keras\nprepare_keras('torch', 'RECS_BACKEND')"
    text = run(code, {"KERAS_BACKEND": "jax"})
    assert text.startswith(
        "BackendConflict: RECS_BACKEND asks for keras[torch], but keras is already imported with jax"
    )
    assert "KERAS_BACKEND=torch" in text
    assert run(code + "\nprint('fine')", {"KERAS_BACKEND": "torch"}) == "fine"


FLAG = "print(os.environ.get('TF_USE_LEGACY_KERAS'))"


@needs("tf_keras")
@pytest.mark.parametrize(
    ("stated", "legacy_keras", "expected"),
    [
        (None, True, "1"),
        ("1", True, "1"),
        ("True", True, "True"),
        ("0", True, "BackendConflict"),
        (None, False, "1"),
        ("0", False, "0"),
    ],
)
def test_the_flag_before_tensorflow(stated: str | None, legacy_keras: bool, expected: str) -> None:
    environment = {} if stated is None else {"TF_USE_LEGACY_KERAS": stated}
    text = run(f"prepare_tensorflow({legacy_keras}, 'a test')\n{FLAG}", environment)
    assert text.split(":")[0] == expected
    if expected == "BackendConflict":
        assert "a test needs TF_USE_LEGACY_KERAS=1, but the environment says TF_USE_LEGACY_KERAS=0" in text


def test_the_flag_without_keras_2() -> None:
    hide = "sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
    assert run(f"{hide}prepare_tensorflow(False, 'a test')\n{FLAG}") == "None"
    text = run(f"{hide}prepare_tensorflow(True, 'a test')")
    assert text.startswith("MissingExtra: a test needs tf_keras") and "pip install tf_keras" in text


@pytest.mark.slow
@needs("tensorflow", "tf_keras")
def test_the_flag_after_tensorflow() -> None:
    """Whatever the variable says by then, tensorflow has decided."""
    late = "import tensorflow\nos.environ['TF_USE_LEGACY_KERAS'] = '1'\nprepare_tensorflow({}, 'a test')\nprint('fine')"
    text = run(late.format(True))
    assert text.startswith("BackendConflict: a test needs Keras 2, but tensorflow is already imported with Keras 3")
    assert run(late.format(False)) == "fine"
    assert run(late.format(True), {"TF_USE_LEGACY_KERAS": "1"}) == "fine"


@pytest.mark.slow
@needs("tensorflow", "tf_keras", "torch")
def test_torch_comes_before_tensorflow_and_both_keras_work() -> None:
    code = """
prepare_keras('torch', 'a test')
prepare_tensorflow(True, 'a test')
print('torch' in sys.modules and 'tensorflow' not in sys.modules)
import tensorflow as tf, keras
print('torch' in sys.modules, keras.backend.backend(), keras.__version__[0], tf.keras.__name__.split('.')[0])
"""
    assert run(code) == "True torch 3 tf_keras"


@needs("jax")
def test_jax_makes_float64() -> None:
    code = """{}prepare_jax_x64('a test')
import jax.numpy as jnp
print(jnp.ones(1, 'float64').dtype, jnp.ones(1, 'float32').dtype)"""
    assert run(code.format("")) == "float64 float32"
    assert run(code.format("import jax.numpy as jnp; jnp.ones(3).sum()\n")) == "float64 float32"
    text = run(code.format(""), {"JAX_ENABLE_X64": "0"})
    assert text.startswith("BackendConflict: a test needs float64 in JAX, but the environment says JAX_ENABLE_X64=0")
