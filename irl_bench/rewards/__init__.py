"""Learned rewards: networks and losses, and how they are fitted. Nothing here knows of policies or worlds."""
