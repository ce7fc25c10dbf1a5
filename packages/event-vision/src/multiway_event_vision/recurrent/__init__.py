"""Spiking and recurrent networks on events, compared: cells, networks, losses, data sets, study."""
