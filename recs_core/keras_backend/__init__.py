"""The built-in backend: Keras 3 on the torch, tensorflow or jax engine.

`keras.ops` holds the model and the task; `engines/` holds what Keras has no common word for: gradients, gathers and
scatters in place, compilation.
"""
