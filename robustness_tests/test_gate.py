"""What the run as a whole is held to.

A test for each cell of --qnn-baseline, for the accuracy under the worst attack, and for what
quantization may cost.

The plugin makes them from the options (gate/requirements.py) and judges them after all others.
"""
