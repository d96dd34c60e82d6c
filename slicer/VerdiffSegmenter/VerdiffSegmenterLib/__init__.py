"""What the module does without its window: the call (no Slicer needed), the scene (MRML alone) and the job of both."""
