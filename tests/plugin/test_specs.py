"""The spec of an index: a name, and options after a colon."""

import pytest

from recs_core.contract.errors import ConfigError
from recs_core.plugin.manager import index_provider, load_index
from recs_core.plugin.specs import joined, split


@pytest.mark.parametrize(
    ("spec", "read"),
    [
        ("exact", ("exact", {})),
        ("int8:rescore=20", ("int8", {"rescore": 20})),
        ("mine:probes=32, share=0.5", ("mine", {"probes": 32, "share": 0.5})),
        ("mine:shift=-1", ("mine", {"shift": -1})),
    ],
)
def test_a_spec_is_read_and_written(spec, read):
    assert split(spec, "a test") == read
    assert split(joined(*read), "a test") == read


@pytest.mark.parametrize(
    "spec", ["int8:", "int8:rescore", "int8:rescore=", "int8:rescore=x", "int8:a=1,a=2", "int8:a=1,"]
)
def test_what_cannot_be_read_is_refused_by_name(spec):
    with pytest.raises(ConfigError, match=f"index '{spec}' .asked for by a test"):
        split(spec, "a test")


def test_options_reach_the_index():
    assert load_index("int8:rescore=20").spec == "int8:rescore=20"
    assert load_index("int8:rescore=10").spec == "int8"  # as by default
    assert index_provider("int8:rescore=20").startswith("recs-core ")


def test_an_option_that_an_index_lacks_is_named_with_those_it_has():
    with pytest.raises(ConfigError, match="has no option 'rescores'.*did you mean 'rescore'"):
        load_index("int8:rescores=20")
    with pytest.raises(ConfigError, match="has no option 'lists'.*it has none"):
        load_index("exact:lists=20")
    with pytest.raises(ConfigError, match="rescore is a whole number ≥ 1, got 0"):
        load_index("int8:rescore=0")
