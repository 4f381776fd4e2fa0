"""Network parts that torchvision does not have."""
