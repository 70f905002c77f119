"""How arrays reach the steps of training: checked, placed, cut into batches, fed. One way down.

`prepare` is the way in. It calls `checks`, then `placement`, and hands over a feed of `feeds`.
"""
