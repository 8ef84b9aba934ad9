"""What supervisor, worker and client say to each other, and the model of a herd file."""
