"""What each command does once its options are parsed; ``verdiff.cli`` imports the one that was called."""
