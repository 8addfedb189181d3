"""What the READMEs of the plugins promise beside that their snippets run: a loop of one's own is short."""

from __future__ import annotations

import pytest

from tests.snippets import ROOT, fenced_blocks

LOOPS = {
    "torch": ["for epoch in", "Accelerator(", "lightning.Trainer(", "torch.autocast("],
    "tensorflow": ["native.fit(", "tf.GradientTape()", "model.query_tower(batch)"],
}


@pytest.mark.parametrize(("plugin", "loop"), [(plugin, loop) for plugin, loops in LOOPS.items() for loop in loops])
def test_a_loop_is_there_in_at_most_20_lines(plugin: str, loop: str) -> None:
    shown = [block.text for block in fenced_blocks(ROOT / "plugins" / plugin / "README.md") if loop in block.text]
    assert shown
    for text in shown:
        assert sum(1 for line in text.splitlines() if line.strip()) <= 20
