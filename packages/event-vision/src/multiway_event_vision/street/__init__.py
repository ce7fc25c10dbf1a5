"""People and vehicles: recordings simulated from videos of streets, with boxes that a detector of pictures gave."""
