"""What hosts of other kinds plug verdiff into, a module each; their packages are imported when they are needed."""
