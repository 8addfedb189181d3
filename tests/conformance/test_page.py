"""docs/conformance.md says what the checks are."""

import pytest
from conformance_page import PAGE, page


def test_the_page_is_up_to_date():
    if not PAGE.parent.is_dir():
        pytest.skip("the documentation is not beside the tests")
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/conformance/conformance_page.py"
