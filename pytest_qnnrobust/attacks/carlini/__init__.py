"""The attacks of Carlini and Wagner, and EAD, which descend on one objective."""
