"""Reports: what a session gathered, written for people and for machines."""
