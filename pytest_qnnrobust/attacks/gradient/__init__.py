"""White-box attacks that follow a gradient of the loss or the logits."""
