"""How a biter says what it breaks: one function for each module that is edited, and lines that several of them edit."""

from breaking import Edit


def towers(old, new):
    return Edit("towers", old, new)


def encoders(old, new):
    return Edit("encoders", old, new)


def task(old, new):
    return Edit("task", old, new)


def optimizers(old, new):
    return Edit("optimizers", old, new)


def training(old, new):
    return Edit("training", old, new)


def topk(old, new):
    return Edit("topk", old, new)


def backend(old, new):
    return Edit("numpy_backend", old, new)


EMBED = "        return towers.embed(self.spec, self.side, whole, self.weights).astype(self.dtype)\n"
