"""Reports: the results of a run, written for people and for machines."""
