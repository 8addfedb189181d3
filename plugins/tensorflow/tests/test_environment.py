"""Legacy Keras, each case in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from recs_core_tensorflow import environment

from recs_core.contract.errors import BackendConflict


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    dropped = ("TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND")
    env = {name: value for name, value in os.environ.items() if name not in dropped} | variables
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=300
    )


def test_importing_the_package_and_its_manifest_imports_no_framework() -> None:
    done = run(
        "import sys, recs_core_tensorflow, recs_core_tensorflow.plugin as p\n"
        "assert p.recs_backends()[0].name == 'tensorflow' and len(p.recs_indexes()) == 2\n"
        "print(sorted({'tensorflow', 'keras', 'tf_keras', 'torch', 'jax'} & set(sys.modules)))"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_who_asks_for_several_workers_is_refused_before_a_framework_is_imported() -> None:
    done = run(
        "import sys\n"
        "from recs_core import config, errors\n"
        "from recs_core.contract.workers import Workers\n"
        "try:\n    config.over('tensorflow', Workers(0, 2))\nexcept errors.UnsupportedFeature as no:\n    print(no)\n"
        "print(sorted({'tensorflow', 'keras', 'tf_keras', 'torch', 'jax'} & set(sys.modules)))"
    )
    assert "recs.load(bundle, backend='tensorflow')" in done.stdout, done.stderr
    assert done.stdout.endswith("[]\n")


def test_keras_2_for_tfrs_beside_keras_3_and_a_quiet_start() -> None:
    done = run(
        "from recs_core_tensorflow import tf, tfrs\n"
        "import keras\n"
        "tf.constant(1) + 1\n"
        "print(tf.keras.Model.__module__.split('.')[0], keras.__version__[0], tfrs.__version__)"
    )
    assert done.stdout.split() == ["tf_keras", "3", "v0.7.7"], done.stderr
    assert done.stderr == ""


def test_what_is_no_noise_still_shows() -> None:
    done = run(
        "import os, sys\n"
        "from recs_core_tensorflow import environment\n"
        "with environment._quiet_start():\n"
        "    os.write(2, b'I0000 00:00:1 x.cc:31] Could not find cuda drivers\\nW0000 00:00:2 real trouble\\n')\n"
        "    print('python warns', file=sys.stderr)"
    )
    assert done.stderr == "W0000 00:00:2 real trouble\npython warns\n"


def test_tensorflow_imported_too_early_names_both_sides() -> None:
    done = run(
        "import tensorflow\n"
        "from recs_core.contract.errors import BackendConflict\n"
        "try:\n"
        "    from recs_core_tensorflow import tf\n"
        "except BackendConflict as error:\n"
        "    print(error)",
        TF_USE_LEGACY_KERAS="0",
    )
    assert "recs-core-tensorflow needs Keras 2" in done.stdout, done.stderr
    assert "TF_USE_LEGACY_KERAS=1" in done.stdout


def test_the_variable_set_the_other_way_is_not_overwritten() -> None:
    done = run(
        "import os\n"
        "from recs_core.contract.errors import BackendConflict\n"
        "from recs_core_tensorflow import environment\n"
        "try:\n"
        "    environment.settle('somebody')\n"
        "except BackendConflict as error:\n"
        "    print(error, os.environ['TF_USE_LEGACY_KERAS'])",
        TF_USE_LEGACY_KERAS="0",
    )
    assert done.stdout.startswith("somebody needs TF_USE_LEGACY_KERAS=1"), done.stderr
    assert done.stdout.strip().endswith(" 0")


def test_tf_keras_of_another_minor_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"tensorflow": "2.21.0", "tf_keras": "2.18.1"}
    monkeypatch.setattr(environment, "_version", versions.get)
    with pytest.raises(BackendConflict, match=r"2\.21\.0 and tf_keras is 2\.18\.1; `pip install tf-keras~=2\.21\.0`"):
        environment.settle("the test")
