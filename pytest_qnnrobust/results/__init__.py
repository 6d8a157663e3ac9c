"""The results document of a run, what it was made with, and the joining of several."""
