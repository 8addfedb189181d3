"""A two-tower model under Lightning: its batches are those of `fit`, its optimizer and schedule are your own.

python examples/loop_lightning.py [online-retail | synthetic]
"""

import sys

import lightning
import torch
from recs_core_torch import loader

import recs_core as recs
from recs_core import datasets


class TwoTower(lightning.LightningModule):
    """`native` holds the towers and the task: `model.model` of a `recs.TwoTower`."""

    def __init__(self, native: torch.nn.Module) -> None:
        super().__init__()
        self.native = native

    def training_step(self, batch, index):
        query, candidate = self.native.query(batch), self.native.candidate(batch)
        loss = self.native.task(query, candidate, **batch.task)
        self.log("loss", loss, prog_bar=True, batch_size=len(query))
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=5e-3)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main() -> None:
    """Train under Lightning on one part of a data set, evaluate on what comes later."""
    train, test = datasets.load(sys.argv[1] if len(sys.argv) > 1 else "online-retail").split(by="time", test=0.1)
    model = recs.recipe("history", train, backend="torch").build(train)
    trainer = lightning.Trainer(max_epochs=8, gradient_clip_val=1.0, logger=False, enable_checkpointing=False)
    trainer.fit(TwoTower(model.model), loader(model, train, batch_size=128))
    print(f"recall@20 {model.evaluate(test, exclude=train)['recall@20']:.3f}")


if __name__ == "__main__":
    main()
