"""The way of arrays to the training steps: checked, placed, cut into batches, fed.

`prepare` is the entry point. It calls `checks`, then `placement`, and returns a feed of `feeds`.
"""
