"""What several studies share: patients on the grid of a model, ways to segment them, times beside Dice."""
