"""The deploy form of a network: the same function of the same weights, rewritten to be fast.

`network.py` holds the rewritten torch modules, `graph.py` exports them with the contract's input and output
around, `cost.py` counts nodes and FLOPs, `typed_fp16.py` types an fp32 graph.
"""
