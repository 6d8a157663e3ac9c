"""The tables and Figure 1 of "David and Goliath" for the models at hand, beside the paper's."""
