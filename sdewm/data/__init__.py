"""Floor 1: environments, replay memory and recorded episodes. A policy is any callable here."""
