"""The players of the example scores, laid out as a project of your own would be."""
