"""White-box attacks along gradients: FGSM, PGD, Auto-PGD, DeepFool, FAB, JSMA, UAP."""
