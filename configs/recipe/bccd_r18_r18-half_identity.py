"""The recipe with adapters that begin as the identity, as the student begins as a part of its teacher."""

_base_ = "bccd_r18_r18-half.py"

model = dict(terms=dict(imitation=dict(adapter=dict(identity=True))))
