"""AutoDistil: one network that holds many small encoders, trained together; the best one for a budget is searched."""
