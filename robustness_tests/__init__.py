"""The suite that is shipped with pytest-qnnrobust and run on the user's models."""
