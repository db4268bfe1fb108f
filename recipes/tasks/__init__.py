"""What recipes of one kind share: base classes, and readers of texts, tables, images and music."""
