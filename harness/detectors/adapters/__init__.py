"""One adapter per detector family: where the components hook into torchvision's model."""
