"""What is listed and what may be asked: pure, without input or output."""
