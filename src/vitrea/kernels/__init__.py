"""The hot loops: project, backproject, softmax."""
